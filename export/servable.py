"""A loaded model version: runs a signature on named arrays, with errors that name the input."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging as absl_logging
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from cvr.errors import CvrError
from export import tensors
from export.versions import MODEL_FILE

DEFAULT_SIGNATURE = "serving_default"
_INIT_SIGNATURE = "__saved_model_init_op"


class UnknownSignatureError(CvrError):
    """The model has no signature of that name."""


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Type and shape of a named input or output; None where any size goes."""

    dtype: tf.DType
    shape: tuple[int | None, ...]


class _DottedNames(logging.Filter):
    """Drops TensorFlow's warning that `<history>.item_id` is no Python parameter name; signatures keep the name as it is."""

    def filter(self, record: Any) -> bool:
        """Whether a log record is shown."""
        return "is not a valid tf.function parameter name" not in str(record.msg)


_DOTTED_NAMES = _DottedNames()


def hush_dotted_names() -> None:
    """Leaves one TensorFlow warning about dotted input names out of the log; may be called again."""
    absl_logging.get_absl_logger().addFilter(_DOTTED_NAMES)


class Servable:
    """One version of a model, from a SavedModel folder named by its version.

    Raises CvrError where the folder holds no SavedModel that can be loaded.
    """

    def __init__(self, folder: str | Path) -> None:
        """Loads the SavedModel; seconds for large tables."""
        self.folder = Path(folder)
        self.version = int(self.folder.name) if self.folder.name.isdecimal() else 0
        self.signature_defs = _signature_defs(self.folder)
        hush_dotted_names()
        try:
            self._model = tf.saved_model.load(str(self.folder))
        except (tf.errors.OpError, OSError, ValueError) as error:
            raise CvrError(f"{self.folder} cannot be loaded as a SavedModel ({error}); export it again") from error
        self._functions: Mapping[str, Any] = self._model.signatures

    def inputs(self, signature: str) -> dict[str, TensorInfo]:
        """Named inputs of a signature. Raises UnknownSignatureError."""
        return tensor_infos(self._definition(signature).inputs)

    def outputs(self, signature: str) -> dict[str, TensorInfo]:
        """Named outputs of a signature. Raises UnknownSignatureError."""
        return tensor_infos(self._definition(signature).outputs)

    def check_names(self, signature: str, given: Iterable[str]) -> None:
        """Raises CvrError naming inputs that are missing or that the signature does not have."""
        expected, names = set(self._definition(signature).inputs), set(given)
        for problem, wrong in (("is missing", expected - names), ("is not an input of the signature", names - expected)):
            if wrong:
                listed = ", ".join(sorted(expected))
                raise CvrError(f"input {sorted(wrong)[0]!r} {problem}; signature {signature!r} takes exactly: {listed}")

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name. Raises CvrError for inputs that do not fit and tf.errors.OpError for what the graph refuses."""
        self.check_names(signature, inputs)
        infos = self.inputs(signature)
        fed = {name: tf.constant(values, infos[name].dtype) for name, values in inputs.items()}
        return {name: value.numpy() for name, value in self._functions[signature](**fed).items()}

    def run_protos(self, signature: str, protos: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Like `run`, from TensorProtos."""
        self.check_names(signature, protos)
        infos = self.inputs(signature)
        return self.run(
            signature, {name: tensors.decode(name, p, infos[name].dtype, infos[name].shape) for name, p in protos.items()}
        )

    def _definition(self, signature: str) -> meta_graph_pb2.SignatureDef:
        if signature not in self.signature_defs:
            raise UnknownSignatureError(f"no signature {signature!r}; there are {', '.join(sorted(self.signature_defs))}")
        return self.signature_defs[signature]


def graph_message(error: tf.errors.OpError) -> str:
    """What a failed graph has to say, without node names and stack traces."""
    asserted = re.search(r"assertion failed: (.*)", error.message or "", re.DOTALL)
    text = (asserted.group(1) if asserted else error.message or str(error)).split("\n\t [[")[0].split("<stack traces unavailable>")[-1]
    bracketed = re.findall(r"\[([^\[\]]*)\]", text) if asserted else []
    return " ".join(part for part in bracketed if part) or text.strip()


def tensor_infos(entries: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, TensorInfo]:
    """Types and shapes of a signature definition's inputs or outputs."""
    return {
        name: TensorInfo(tf.as_dtype(i.dtype), tuple(None if d.size < 0 else d.size for d in i.tensor_shape.dim))
        for name, i in entries.items()
    }


def _signature_defs(folder: Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    path = folder / MODEL_FILE
    if not path.is_file():
        raise CvrError(f"no {MODEL_FILE} in {folder}; export a model first: python -m export.save --run=RUN --output={folder.parent}")
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(path.read_bytes())
        definitions = dict(model.meta_graphs[0].signature_def)
    except (IndexError, ValueError, OSError) as error:
        raise CvrError(f"{path} is not a whole SavedModel ({error}); export it again") from error
    except Exception as error:  # google.protobuf.message.DecodeError, whose base differs between protobuf releases
        raise CvrError(f"{path} is not a whole SavedModel ({error}); export it again") from error
    return {name: definition for name, definition in definitions.items() if name != _INIT_SIGNATURE}
