"""A version folder -> a version that is fit to answer: loaded, warm, and giving the answers that it gave when it was exported."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from cvr.errors import CvrError
from export.extras import EXAMPLE_FILE, EXTRA, MODEL_FILE, WARMUP_FILE, about
from export.request import Search, to_arrays
from export.selfcheck import check
from export.servable import DEFAULT_SIGNATURE, Servable, graph_message
from export.warmup import read_requests


def load_version(folder: Path, intra_op: int = 0, inter_op: int = 0) -> Servable:
    """Loads, warms up and checks a version. Raises CvrError saying which of them it fails; nothing of it stays loaded then.

    A version without model.json, or with one that tells of no self-check, comes from elsewhere or an older export and is only warmed up.
    """
    servable = Servable(folder, intra_op, inter_op)
    try:
        warm_up(servable)
        if (folder / EXTRA / MODEL_FILE).is_file() and about(folder).get("parity"):
            check(servable)
    except BaseException:
        servable.close()
        raise
    return servable


def warm_up(servable: Servable) -> None:
    """Answers the version's warm-up requests and its example, if it has them: the first calls of a signature and size take seconds.

    Raises CvrError when the version cannot answer one.
    """
    extra = servable.folder / EXTRA
    try:
        if (extra / WARMUP_FILE).is_file():
            for request in read_requests(extra / WARMUP_FILE):
                servable.run_protos(request.model_spec.signature_name or DEFAULT_SIGNATURE, request.inputs)
    except (CvrError, tf.errors.OpError) as error:
        raise CvrError(f"{servable.folder} cannot answer its own {EXTRA}/{WARMUP_FILE} ({_why(error)}); export the run again") from error
    try:
        if (extra / EXAMPLE_FILE).is_file():
            example = Search.from_file(extra / EXAMPLE_FILE)
            servable.run(DEFAULT_SIGNATURE, to_arrays(example, servable.inputs(DEFAULT_SIGNATURE)))
    except (CvrError, tf.errors.OpError) as error:
        raise CvrError(f"{servable.folder} cannot rank its own {EXTRA}/{EXAMPLE_FILE} ({_why(error)}); export the run again") from error


def _why(error: Exception) -> str:
    return graph_message(error) if isinstance(error, tf.errors.OpError) else str(error)
