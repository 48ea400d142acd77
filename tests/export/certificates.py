"""A throw-away certificate authority for tests of TLS."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Writes `<name>.pem` and `<name>.key` into a folder: its own, and those of servers and clients, all for host `localhost`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder, self._name, self._key = folder, name, ec.generate_private_key(ec.SECP256R1())
        self.file = self._write(name, self._key, is_authority=True)

    def issue(self, name: str) -> tuple[str, str]:
        """(certificate file, key file)."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._write(name, key, is_authority=False), str(self._folder / f"{name}.key")

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, is_authority: bool) -> str:
        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        certificate = (
            x509.CertificateBuilder(_named(self._name), _named(name), key.public_key(), x509.random_serial_number(), now - day, now + day)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self._folder / f"{name}.key").write_bytes(private)
        (self._folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        return str(self._folder / f"{name}.pem")


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
