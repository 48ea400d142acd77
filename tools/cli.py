"""Console entry points (`cvr-train`, `cvr-serve`, ...): each runs a main exactly as `python -m <module>` does."""

from __future__ import annotations

import runpy


def _run(module: str) -> None:
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def backfill() -> None:
    """Features for old partitions of search lists, as a new version: `pipelines.backfill`."""
    _run("pipelines.backfill")


def build_lists() -> None:
    """Raw logs to search lists: `pipelines.build_lists`."""
    _run("pipelines.build_lists")


def calibrate() -> None:
    """Probabilities fitted to a run's scores: `cvr.calibrate`."""
    _run("cvr.calibrate")


def compare() -> None:
    """Systems against each other, with intervals, tests and slices: `tools.compare`."""
    _run("tools.compare")


def conformance() -> None:
    """What a server of an exported model must do, checked over gRPC: `export.conformance`."""
    _run("export.conformance")


def demo() -> None:
    """The whole way, logs to a served model and a report: `tools.demo`."""
    _run("tools.demo")


def describe() -> None:
    """Parameters, FLOPs and bytes of a ranker, without data: `cvr.describe`."""
    _run("cvr.describe")


def describe_export() -> None:
    """What an exported version is, takes and gives: `export.describe`."""
    _run("export.describe")


def evaluate() -> None:
    """Ranking metrics of a trained run beside its baselines: `cvr.evaluate`."""
    _run("cvr.evaluate")


def export() -> None:
    """A trained run to a SavedModel: `export.save`."""
    _run("export.save")


def gbdt_baseline() -> None:
    """LightGBM's LambdaMART on a model's own records and features: `tools.gbdt_baseline`."""
    _run("tools.gbdt_baseline")


def importance() -> None:
    """What shuffling a model's features costs: `tools.importance`."""
    _run("tools.importance")


def inspect_lists() -> None:
    """Prints search lists in readable form: `tools.inspect_lists`."""
    _run("tools.inspect_lists")


def load_test() -> None:
    """Open-loop load on a served model: latency, and peaks within a limit: `tools.load_test`."""
    _run("tools.load_test")


def make_logs() -> None:
    """Synthetic search logs with a planted truth: `tools.make_logs`."""
    _run("tools.make_logs")


def plan() -> None:
    """What to scale next, from measured curves and under budgets: `tools.plan`."""
    _run("tools.plan")


def pretrain() -> None:
    """Generative pre-training of item vectors: `cvr.pretrain`."""
    _run("cvr.pretrain")


def rank_by() -> None:
    """Lists ranked by one feature, as a baseline: `tools.rank_by`."""
    _run("tools.rank_by")


def replay() -> None:
    """Logged requests scored again and compared: `export.replay`."""
    _run("export.replay")


def rollback() -> None:
    """Serves an older version again: `export.rollback`."""
    _run("export.rollback")


def scaling_study() -> None:
    """The paper's scaling studies, each a declared list of runs: `tools.scaling_study`."""
    _run("tools.scaling_study")


def serve() -> None:
    """Local gRPC server that speaks TF Serving's protocol: `export.serve`."""
    _run("export.serve")


def simulate_serving() -> None:
    """A server's latency by simulation, and the fleet that some traffic needs: `tools.simulate_serving`."""
    _run("tools.simulate_serving")


def soak() -> None:
    """A bounded soak of the local server with version switches: `tools.soak`."""
    _run("tools.soak")


def study_backbones() -> None:
    """Every backbone tuned alike and compared over seeds: `tools.study_backbones`."""
    _run("tools.study_backbones")


def study_warm_start() -> None:
    """Warm starts against training from scratch, in quality, cost and drift: `tools.study_warm_start`."""
    _run("tools.study_warm_start")


def track() -> None:
    """Runs and evaluations gathered into one table, and what differs between two: `tools.track`."""
    _run("tools.track")


def train() -> None:
    """Trains a ranker on search lists: `cvr.train`."""
    _run("cvr.train")


def tune_batching() -> None:
    """The batching with the greatest load within a latency limit: `tools.tune_batching`."""
    _run("tools.tune_batching")


def validate() -> None:
    """Checks and describes published search lists: `pipelines.validate`."""
    _run("pipelines.validate")
