"""Times exported XLA programs on this machine's first device. Needs jax and numpy, and nothing of this project: copy the file along.

    python run_hlo.py FOLDER [--json=FILE] [--only=NAME,...] [--repeats=7] [--seconds=0.5]

FOLDER is what `tools.benchmarks.gpu_step` wrote. Programs take turns; a turn runs one for so many seconds, each run on the variables that
the run before left in the same memory, and waits for the device at its end only. Programs that came with values are checked first: exit
code 1 where an output differs from TensorFlow's by more than --tolerance, the norm of the difference against the norm of the output.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import compiler
from jax._src.lib import xla_client

FORMAT = 1


class Program:
    """One exported program, compiled, its arguments on the device."""

    def __init__(self, folder: Path, device: Any) -> None:
        self.folder, self.device = folder, device
        self.about = json.loads((folder / "program.json").read_text(encoding="utf-8"))
        if self.about["format"] != FORMAT:
            sys.exit(f"{folder}: format {self.about['format']}, this file runs format {FORMAT}; export again, or take its run_hlo.py")
        stablehlo = xla_client._xla.mlir.hlo_to_stablehlo((folder / "program.hlo").read_bytes())
        options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
        devices = xla_client.DeviceList((device,))
        started = time.perf_counter()
        self.executable = device.client.compile_and_load(stablehlo, devices, options)
        self.compile_seconds = time.perf_counter() - started

    def inputs(self) -> list[Any]:
        """All parameters on the device: the batch, and variables from their values or drawn by mean and spread."""
        arrays = np.load(self.folder / "arguments.npz")
        path = self.folder / "variables.npz"
        stored = np.load(path) if path.exists() else None
        made: list[Any] = []
        for place, parameter in enumerate(self.about["parameters"]):
            if "argument" in parameter:
                made.append(jax.device_put(arrays[parameter["argument"]], self.device))
            elif stored is not None:
                made.append(jax.device_put(stored[str(place - len(arrays.files))], self.device))
            else:
                made.append(self._drawn(parameter, place))
        return made

    def _drawn(self, parameter: dict[str, Any], place: int) -> Any:
        shape, dtype = tuple(parameter["shape"]), parameter["dtype"]
        if not parameter["std"] or not jnp.issubdtype(dtype, jnp.floating):
            return jax.device_put(jnp.full(shape, parameter["mean"], dtype), self.device)
        key = jax.random.key(place)
        return jax.device_put(parameter["mean"] + parameter["std"] * jax.random.normal(key, shape, dtype), self.device)

    def run(self, inputs: list[Any]) -> list[Any]:
        """One run; afterwards `inputs` holds the next values of the assigned variables."""
        outputs = self.executable.execute(inputs)
        for output, parameter in self.about["next"]:
            inputs[parameter] = outputs[output]
        return outputs

    def error(self) -> float | None:
        """Greatest |output - TensorFlow's| / |TensorFlow's| of all outputs, in the 2-norm; None without values."""
        path = self.folder / "expected.npz"
        if not path.exists():
            return None
        expected, outputs = np.load(path), self.run(self.inputs())
        errors = []
        for place, output in enumerate(outputs):
            wanted = expected[str(place)].astype(np.float64)
            known = np.isfinite(wanted)
            difference = np.where(known, np.asarray(output, np.float64) - np.where(known, wanted, 0.0), 0.0)
            errors.append(float(np.linalg.norm(difference)) / max(float(np.linalg.norm(wanted[known])), 1e-9))
        return max(errors)

    def turn(self, inputs: list[Any], seconds: float) -> float:
        """Milliseconds of a run, mean over so many seconds of runs."""
        runs, batch = 0, 1
        started = time.perf_counter()
        while True:
            for _ in range(batch):
                outputs = self.run(inputs)
            jax.block_until_ready(outputs)
            runs += batch
            spent = time.perf_counter() - started
            if spent >= seconds:
                return spent / runs * 1e3
            batch = max(1, int(batch * min(10.0, seconds / spent)))


def measure(programs: dict[str, Program], repeats: int, seconds: float) -> list[dict[str, Any]]:
    """Times all programs in turns."""
    inputs = {name: program.inputs() for name, program in programs.items()}
    for name, program in programs.items():
        jax.block_until_ready(program.run(inputs[name]))
    turns: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            turns[name].append(program.turn(inputs[name], seconds))
    return [_result(name, programs[name], times) for name, times in turns.items()]


def _result(name: str, program: Program, times: list[float]) -> dict[str, Any]:
    middle, about = statistics.median(times), program.about
    found = {key: about[key] for key in ("backbone", "variant", "precision", "program", "items", "loops") if key in about}
    found |= {"name": name, "ms": middle, "least": min(times), "most": max(times), "compile_seconds": program.compile_seconds}
    found["items_per_second"] = about["items"] / middle * 1e3
    if about.get("flops"):
        found["tflops"] = about["flops"] / middle / 1e9
    return found


def table(results: list[dict[str, Any]]) -> str:
    """One line per program."""
    head = f"{'program':<48} {'ms':>10} {'least':>10} {'most':>10} {'items/s':>12} {'TFLOP/s':>8}"
    lines = [
        f"{r['name']:<48} {r['ms']:>10.3f} {r['least']:>10.3f} {r['most']:>10.3f} {r['items_per_second']:>12,.0f} "
        + (f"{r['tflops']:>8.2f}" if "tflops" in r else "")
        for r in results
    ]
    return "\n".join([head, *lines])


def main() -> int:
    """Checks, times and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--only", default="", help="names of programs, by commas")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--tolerance", type=float, default=1e-2)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # step counters are int64
    device = jax.devices()[0]
    folders = {str(path.parent.relative_to(given.folder)): path.parent for path in sorted(given.folder.rglob("program.json"))}
    chosen = given.only.split(",") if given.only else list(folders)
    if not chosen or not set(chosen) <= set(folders):
        sys.exit(f"--only={given.only}: {given.folder} holds {', '.join(folders) or 'no program'}")
    programs = {name: Program(folders[name], device) for name in chosen}
    errors = {name: program.error() for name, program in programs.items()}
    results = [{**result, "error": errors[result["name"]]} for result in measure(programs, given.repeats, given.seconds)]
    print(f"{device.device_kind} ({device.platform}), jax {jax.__version__}\n{table(results)}")
    found = {"device": device.device_kind, "platform": device.platform, "jax": jax.__version__, "results": results}
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    wrong = {name: error for name, error in errors.items() if error is not None and error > given.tolerance}
    for name, error in wrong.items():
        print(f"{name}: an output differs from TensorFlow's by {error:.1e} of its norm", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
