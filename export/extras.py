"""What lies beside the model in a version's `assets.extra/`, which TF Serving ignores but for the warm-up requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cvr.errors import CvrError

EXTRA = "assets.extra"
MODEL_FILE, EXAMPLE_FILE = "model.json", "example_request.json"
WARMUP_FILE = "tf_serving_warmup_requests"
PARITY_FILE = "parity_requests.tfrecord"
QUANTISATION_FILE = "quantisation.json"


def about(folder: Path) -> dict[str, Any]:
    """The model.json of a version folder. Raises CvrError where it was not written by `export.save` or is damaged."""
    path = folder / EXTRA / MODEL_FILE
    if not path.is_file():
        raise CvrError(f"no {EXTRA}/{MODEL_FILE} in {folder}: it was not written by export.save; export the run again")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CvrError(f"{path} is damaged ({error}); export the run again") from error
