"""TLS and mutual TLS, with certificates made here."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from cvr.errors import CvrError
from export.credentials import server_credentials
from export.models import Models
from export.server import Server
from tests.export.stand_ins import StandIn


class Pair(NamedTuple):
    """A certificate and its key, and where their PEM files are."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert_file: Path
    key_file: Path


def _make(folder: Path, name: str, issuer: Pair | None = None) -> Pair:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    pair = Pair(certificate, key, folder / f"{name}.pem", folder / f"{name}.key")
    pair.cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair.key_file.write_bytes(key.private_bytes(*private))
    return pair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return _make(tmp_path_factory.mktemp("ca"), "authority")


@pytest.fixture(scope="module")
def pair(authority: Pair) -> Pair:
    return _make(authority.cert_file.parent, "server", authority)


def _ask(server: Server, credentials: grpc.ChannelCredentials | None) -> int:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "cvr"
    target = f"127.0.0.1:{server.port}"
    channel = grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
    with channel:
        return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=20).model_spec.version.value


def test_tls_and_mutual_tls(authority: Pair, pair: Pair) -> None:
    trusted = authority.cert_file.read_bytes()
    plain = grpc.ssl_channel_credentials(trusted)
    known = grpc.ssl_channel_credentials(trusted, pair.key_file.read_bytes(), pair.cert_file.read_bytes())
    stranger = _make(authority.cert_file.parent, "stranger")
    foreign = grpc.ssl_channel_credentials(trusted, stranger.key_file.read_bytes(), stranger.cert_file.read_bytes())
    for client_ca, let_in, kept_out in ((None, [plain, known], [None]), (str(authority.cert_file), [known], [None, plain, foreign])):
        credentials = server_credentials(str(pair.cert_file), str(pair.key_file), client_ca)
        server = Server(Models("cvr", {4: StandIn("4")}), credentials=credentials)
        server.start()
        assert [_ask(server, client) for client in let_in] == [4] * len(let_in)
        for client in kept_out:
            with pytest.raises(grpc.RpcError) as refused:
                _ask(server, client)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        server.stop(grace=0.0)


def test_files_that_do_not_fit_are_named(authority: Pair, pair: Pair, tmp_path: Path) -> None:
    assert server_credentials(None, None, None) is None
    with pytest.raises(CvrError, match="both --tls_cert and --tls_key"):
        server_credentials(str(pair.cert_file), None, None)
    with pytest.raises(CvrError, match="--tls_key=.*authority.key: not PEM files of a certificate and its own key"):
        server_credentials(str(pair.cert_file), str(authority.key_file), None)
    with pytest.raises(CvrError, match="--client_ca=.*none.pem"):
        server_credentials(str(pair.cert_file), str(pair.key_file), str(tmp_path / "none.pem"))
