"""What `tools.simulate_serving` found, as a table and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.benchmarks.tables import table
from tools.serving.plots import Line, latency_plot, peak_plot
from tools.serving.sweep import table6_head

Entries = Sequence[Mapping[str, Any]]
_NONE = "none"


def shown(found: Mapping[str, Any]) -> str:
    """The report as text."""
    mode, results = found["settings"]["mode"], found["results"]
    if mode == "sweep":
        return table(table6_head(found["settings"]["limits_ms"]), [entry["row"] for entry in results], False)
    if mode == "plan":
        return _plan_table(results)
    return _rates_table(results, validated=mode == "validate")


def _ms(value: float | None) -> str:
    return "over" if value is None or value == float("inf") else f"{value:.1f}"


def _rates_table(results: Entries, validated: bool) -> str:
    head = ["requests/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "refused", "rows a batch", "cores", "device"]
    head += ["measured p50 ms", "measured p99 ms", "simulated / measured p99", "within 20 %"] if validated else []
    rows = []
    for entry in results:
        row = [f"{entry['rate']:g}", *(_ms(entry["latency_ms"][name]) for name in ("p50", "p90", "p99", "p99.9")), f"{entry['refused']:,}"]
        row += [f"{entry['rows_per_batch']:.1f}", f"{entry['cores']:.2f}", f"{entry['device']:.2f}"]
        if validated:
            measured = entry["measured"]["latency_ms"]
            row += [_ms(measured["p50"]), _ms(measured["p99"]), f"{entry['ratio']:.2f}", "yes" if entry["within"] else "NO"]
        rows.append(row)
    return table(head, rows, False)


def _plan_table(results: Entries) -> str:
    head = ["timeout ms", "requests/s an instance", "instances", "p99 ms", "without spares", "cores", "device", "cost/h", "per million"]
    rows = []
    for entry in results:
        if not entry["instances"]:
            rows.append([f"{entry['timeout_ms']:g}", "0", _NONE, "", "", "", "", "", ""])
            continue
        latency = [_ms(entry["p99_ms"]), _ms(entry["p99_ms_without_spare"])]
        used = [f"{entry['cores']:.2f}", f"{entry['device']:.2f}", f"{entry['cost_per_hour']:,.2f}", f"{entry['cost_per_million']:,.2f}"]
        rows.append([f"{entry['timeout_ms']:g}", f"{entry['peak_rate']:,.1f}", f"{entry['instances']:,}", *latency, *used])
    return table(head, rows, False)


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Latency by load (beside the measured), peaks by timeout, or an instance's load by timeout."""
    mode, results, settings = found["settings"]["mode"], found["results"], found["settings"]
    lines: dict[str, Line] = {}
    if mode == "plan":
        lines["peak"] = [(entry["timeout_ms"], entry["peak_rate"]) for entry in results]
        peak_plot(path, lines, "Load of an instance by batch timeout", ylabel="requests/s")
    elif mode == "sweep":
        for place, limit in enumerate(settings["limits_ms"]):
            lines[f"P99 within {limit:g} ms"] = [(e["timeout_ms"], e["peaks"][place]["items_per_second"]) for e in results]
        peak_plot(path, lines, "Simulated peak by batch timeout")
    else:
        for q in ("p50", "p99"):
            lines[f"{q}, simulated"] = [(e["rate"], e["latency_ms"][q]) for e in results]
        if mode == "validate":
            for q in ("p50", "p99"):
                lines[f"{q}, measured"] = [(e["rate"], e["measured"]["latency_ms"][q] or float("inf")) for e in results]
        latency_plot(path, lines, "Simulated latency by load" + (" beside the measured" if mode == "validate" else ""))
