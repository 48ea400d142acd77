"""TLS for a server: its certificate, and for mutual TLS the authority that its clients' certificates come from."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from cvr.errors import CvrError


def server_credentials(cert: str | None, key: str | None, client_ca: str | None) -> grpc.ServerCredentials | None:
    """Credentials from PEM files; None without any. With `client_ca` only clients with a certificate that it signed are let in.

    Raises CvrError where a file is missing or no PEM, or key and certificate do not belong together.
    """
    if not (cert or key or client_ca):
        return None
    if not (cert and key):
        raise CvrError("TLS needs both --tls_cert and --tls_key; --client_ca asks clients for certificates on top")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
        if client_ca:
            context.load_verify_locations(client_ca)
    except (OSError, ssl.SSLError) as error:
        files = f"--tls_cert={cert} --tls_key={key}" + (f" --client_ca={client_ca}" if client_ca else "")
        raise CvrError(f"{files}: not PEM files of a certificate and its own key ({error})") from error
    pair = (Path(key).read_bytes(), Path(cert).read_bytes())
    authority = Path(client_ca).read_bytes() if client_ca else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
