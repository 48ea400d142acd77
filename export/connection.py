"""How a client reaches a server: message sizes, TLS and mutual TLS, keepalive; and the command-line flags for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import grpc
from absl import flags

from cvr.errors import CvrError

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Tls:
    """PEM files. `ca_file`: whom to trust instead of gRPC's own root certificates. `cert_file`, `key_file`: this client's own, for
    servers that ask for one (mutual TLS). `server_name`: the name in the server's certificate, where it is not the host of the target."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. Raises CvrError naming the one that is not there, or a certificate without its key."""
        if (self.cert_file is None) != (self.key_file is None):
            raise CvrError("a client certificate needs its key and a key its certificate; give both PEM files or neither")
        read = [_pem(name) for name in (self.ca_file, self.key_file, self.cert_file)]
        return grpc.ssl_channel_credentials(*read)


@dataclasses.dataclass(frozen=True)
class Connection:
    """`keepalive_seconds`: pings an idle connection, so that a dead one is noticed before a call needs it. A server that was not told to
    expect it closes connections that ping more than once in 5 minutes, so leave it off or at 300 and more for the usual ones."""

    tls: Tls | None = None
    keepalive_seconds: float | None = None
    max_message_mb: int = 64

    def options(self) -> list[tuple[str, int | str]]:
        """gRPC channel arguments. A lost connection is tried again after 0.1 s, then at growing intervals of at most 5 s."""
        found: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", self.max_message_mb << 20),
            ("grpc.max_send_message_length", self.max_message_mb << 20),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 5_000),
        ]
        if self.keepalive_seconds is not None:
            found += [
                ("grpc.keepalive_time_ms", int(1000 * self.keepalive_seconds)),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.max_pings_without_data", 0),
            ]
        if self.tls is not None and self.tls.server_name is not None:
            found.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return found

    def channel(self, target: str) -> grpc.Channel:
        """A channel that connects with its first call."""
        if self.tls is None:
            return grpc.insecure_channel(target, options=self.options())
        return grpc.secure_channel(target, self.tls.credentials(), options=self.options())

    def async_channel(self, target: str) -> grpc.aio.Channel:
        """The same for the running event loop."""
        if self.tls is None:
            return grpc.aio.insecure_channel(target, options=self.options())
        return grpc.aio.secure_channel(target, self.tls.credentials(), options=self.options())


def _pem(name: str | None) -> bytes | None:
    if name is None:
        return None
    file = Path(name)
    if not file.is_file():
        raise CvrError(f"no PEM file {file}; give the path of a certificate or key")
    return file.read_bytes()


def define_connection_flags() -> None:
    """`--target` and TLS, for commands that call a server."""
    flags.DEFINE_string("target", "localhost:8500", "host:port of the server.")
    flags.DEFINE_bool("tls", False, "Encrypts; also on where one of the other TLS flags is given.")
    flags.DEFINE_string("tls_ca", None, "PEM file of the certificates to trust instead of gRPC's own.")
    flags.DEFINE_string("tls_cert", None, "PEM file of this client's certificate, for mutual TLS.")
    flags.DEFINE_string("tls_key", None, "PEM file of its key.")
    flags.DEFINE_string("tls_server_name", None, "Name in the server's certificate, where it is not the host of --target.")


def connection_from_flags() -> Connection:
    """What `define_connection_flags` was given."""
    tls = Tls(FLAGS.tls_ca, FLAGS.tls_cert, FLAGS.tls_key, FLAGS.tls_server_name)
    return Connection(tls if FLAGS.tls or tls != Tls() else None)
