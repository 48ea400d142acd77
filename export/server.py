"""A gRPC server of one model's loaded versions."""

from __future__ import annotations

from concurrent import futures

import grpc
import tensorflow as tf
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from cvr.errors import CvrError
from export.request import Search, to_arrays
from export.saved_model import EXAMPLE_FILE, EXTRA
from export.servable import DEFAULT_SIGNATURE, Servable
from export.services import Models, ModelService, PredictionService
from export.versions import newest


class Server:
    """A gRPC server of one model. `port` is the one it listens on."""

    def __init__(self, models: Models, address: str = "127.0.0.1:0", workers: int = 16, message_mb: int = 64) -> None:
        """Binds the address; requests are answered after `start`. Raises CvrError when it is taken."""
        options = [
            ("grpc.so_reuseport", 0),  # otherwise a second server would share the port without an error
            ("grpc.max_receive_message_length", message_mb << 20),
            ("grpc.max_send_message_length", message_mb << 20),
        ]
        self._server = grpc.server(futures.ThreadPoolExecutor(workers, thread_name_prefix="rpc"), options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(models), self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), self._server)
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise CvrError(f"cannot listen on {address}: the port is in use or the address is not this machine's; give another --port")

    def start(self) -> None:
        """Begins to answer."""
        self._server.start()

    def stop(self, grace: float = 5.0) -> None:
        """Refuses new requests, lets running ones end within `grace` seconds, then returns."""
        self._server.stop(grace).wait()


def load_models(base: str, name: str) -> Models:
    """The newest version under a base folder, warmed up. Raises CvrError where there is none or it cannot answer."""
    servable = Servable(newest(base))
    warm_up(servable)
    return Models(name, {servable.version: servable})


def warm_up(servable: Servable) -> None:
    """Ranks the version's own example, if it has one: the first call of a signature takes seconds, and no client should wait for it.

    Raises CvrError when the version cannot rank it.
    """
    example = servable.folder / EXTRA / EXAMPLE_FILE
    if not example.is_file():
        return
    try:
        servable.run(DEFAULT_SIGNATURE, to_arrays(Search.from_file(example), servable.inputs(DEFAULT_SIGNATURE)))
    except (CvrError, tf.errors.OpError) as error:
        raise CvrError(f"{servable.folder} cannot rank its own {EXTRA}/{EXAMPLE_FILE} ({error}); export the run again") from error
