"""A loaded model version: runs a signature on named arrays, with errors that name the input."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging as absl_logging
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2

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


@dataclasses.dataclass(frozen=True)
class _Signature:
    """What is known of a signature once its version is loaded; `call` takes arrays in the order of `inputs`, gives those of `outputs`."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    call: Callable[..., list[np.ndarray]]


class _KnownLines(logging.Filter):
    """Drops two warnings: `<history>.item_id` is no Python parameter name (signatures keep it as it is), and that sessions are old."""

    def filter(self, record: Any) -> bool:
        """Whether a log record is shown."""
        text = record.getMessage() if "deprecat" in str(record.msg) else str(record.msg)
        return "is not a valid tf.function parameter name" not in text and "saved_model.load" not in text


_KNOWN_LINES = _KnownLines()


def hush_dotted_names() -> None:
    """Leaves one TensorFlow warning about dotted input names out of the log; may be called again."""
    absl_logging.get_absl_logger().addFilter(_KNOWN_LINES)


class Servable:
    """One version of a model, from a SavedModel folder named by its version.

    It runs in a session of its own, as in tensorflow_model_server: a call costs half a millisecond less than through the functions of
    `tf.saved_model.load`, and `close` ends the threads of its batcher, which eager TensorFlow keeps for the life of the process.
    `intra_op` and `inter_op` are threads (0: one per core); the first version of a process sets `intra_op` for all.

    Raises CvrError where the folder holds no SavedModel that can be loaded.
    """

    def __init__(self, folder: str | Path, intra_op: int = 0, inter_op: int = 0) -> None:
        """Loads the SavedModel; seconds for large tables."""
        self.folder = Path(folder)
        self.version = int(self.folder.name) if self.folder.name.isdecimal() else 0
        self.signature_defs = _signature_defs(self.folder)
        tf.get_logger().addFilter(_KNOWN_LINES)
        config = config_pb2.ConfigProto(allow_soft_placement=True, intra_op_parallelism_threads=intra_op)
        config.session_inter_op_thread_pool.add(num_threads=inter_op)  # its own: the first calls would block that of other versions
        config.gpu_options.allow_growth = True
        config.graph_options.rewrite_options.disable_meta_optimizer = True  # five sixths of the time to load, and no call gets faster by it
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with self._session.graph.as_default():
                placed = bool(tf.config.list_physical_devices("GPU"))  # without one, each variable that asks for it is a long warning
                tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(self.folder), clear_devices=not placed)
            self._signatures = {name: self._prepare(definition) for name, definition in self.signature_defs.items()}
        except (tf.errors.OpError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            self._session.close()
            raise CvrError(f"{self.folder} cannot be loaded as a SavedModel ({error}); export it again") from error

    def close(self) -> None:
        """Frees the version's tables and threads; calls that are running fail."""
        self._session.close()
        self._signatures = {}

    def inputs(self, signature: str) -> dict[str, TensorInfo]:
        """Named inputs of a signature. Raises UnknownSignatureError."""
        return self._find(signature).inputs

    def outputs(self, signature: str) -> dict[str, TensorInfo]:
        """Named outputs of a signature. Raises UnknownSignatureError."""
        return self._find(signature).outputs

    def check_names(self, signature: str, given: Iterable[str]) -> None:
        """Raises CvrError naming inputs that are missing or that the signature does not have."""
        expected, names = self._find(signature).inputs.keys(), set(given)
        for problem, wrong in (("is missing", expected - names), ("is not an input of the signature", names - expected)):
            if wrong:
                listed = ", ".join(sorted(expected))
                raise CvrError(f"input {sorted(wrong)[0]!r} {problem}; signature {signature!r} takes exactly: {listed}")

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name. Raises CvrError for inputs that do not fit and tf.errors.OpError for what the graph refuses."""
        self.check_names(signature, inputs)
        found = self._find(signature)
        fed = [_fitting(name, inputs[name], info) for name, info in found.inputs.items()]
        return _answer(found, fed)

    def run_protos(self, signature: str, protos: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Like `run`, from TensorProtos."""
        self.check_names(signature, protos)
        found = self._find(signature)
        fed = [tensors.decode(name, protos[name], info.dtype, info.shape) for name, info in found.inputs.items()]
        return _answer(found, fed)

    def _find(self, signature: str) -> _Signature:
        if signature not in self._signatures:
            raise UnknownSignatureError(f"no signature {signature!r}; there are {', '.join(sorted(self._signatures))}")
        return self._signatures[signature]

    def _prepare(self, definition: meta_graph_pb2.SignatureDef) -> _Signature:
        inputs, outputs = tensor_infos(definition.inputs), tensor_infos(definition.outputs)
        options = config_pb2.CallableOptions(
            feed=[definition.inputs[name].name for name in inputs], fetch=[definition.outputs[name].name for name in outputs]
        )
        return _Signature(inputs, outputs, self._session._make_callable_from_options(options))


def _answer(signature: _Signature, fed: list[np.ndarray]) -> dict[str, np.ndarray]:
    try:
        return dict(zip(signature.outputs, signature.call(*fed), strict=True))
    except UnicodeDecodeError as error:  # the graph's message quotes bytes of the request, and TensorFlow cannot raise it
        raise _naming(signature, tf.errors.InvalidArgumentError(None, None, error.object.decode("utf-8", "replace"))) from error
    except tf.errors.InvalidArgumentError as error:
        raise _naming(signature, error) from error


def _naming(signature: _Signature, error: tf.errors.InvalidArgumentError) -> tf.errors.InvalidArgumentError:
    """Kernels do not know which input their values came from, but one input leaves no choice."""
    message = graph_message(error)
    if len(signature.inputs) == 1 and (name := next(iter(signature.inputs))) not in message:
        message = f"input {name}: {message}"
    return tf.errors.InvalidArgumentError(None, None, message)


def _fitting(name: str, values: np.ndarray, info: TensorInfo) -> np.ndarray:
    array = np.asarray(values, object if info.dtype == tf.string else info.dtype.as_numpy_dtype)
    if len(array.shape) != len(info.shape) or any(want not in (None, have) for have, want in zip(array.shape, info.shape, strict=True)):
        raise CvrError(f"input {name!r} must have shape {tensors.shape_text(info.shape)}, and has {list(array.shape)}")
    return array


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
