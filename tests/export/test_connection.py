from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvr.errors import CvrError
from export.async_client import AsyncClient
from export.client import Client, Options
from export.connection import Connection, Tls
from export.credentials import server_credentials
from export.retries import Retry
from tests.export.certificates import Authority
from tests.export.proxies import Proxy


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def mutual(authority: Authority, target: str) -> Iterator[str]:
    """A TLS server that asks for client certificates."""
    certificate, key = authority.issue("server")
    with Proxy(target).serving(server_credentials(certificate, key, authority.file)) as proxy:
        yield proxy.target


def _options(tls: Tls | None) -> Options:
    return Options(Connection(tls), Retry(attempts=1))


def test_mutual_tls(authority: Authority, mutual: str) -> None:
    tls = Tls(authority.file, *authority.issue("me"))
    with Client(mutual, options=_options(tls)) as client:
        assert client.status() == {3: "AVAILABLE"}

    async def status() -> dict[int, str]:
        async with AsyncClient(mutual.replace("localhost", "127.0.0.1"), options=_options(named)) as client:
            return await client.status()

    named = Tls(tls.ca_file, tls.cert_file, tls.key_file, server_name="localhost")
    assert asyncio.run(status()) == {3: "AVAILABLE"}


def test_strangers_are_not_let_in(authority: Authority, mutual: str, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    without_certificate, unknown_certificate = Tls(authority.file), Tls(authority.file, *stranger.issue("me"))
    for tls in (None, without_certificate, unknown_certificate):
        with Client(mutual, options=_options(tls)) as client, pytest.raises(CvrError, match=mutual):
            client.status()


def test_an_untrusted_server_is_named(authority: Authority, mutual: str, tmp_path: Path) -> None:
    tls = Tls(Authority(tmp_path, "stranger").file, *authority.issue("them"))
    with Client(mutual, options=_options(tls)) as client, pytest.raises(CvrError, match="no TLS connection to .*certificate"):
        client.status()


def test_files_that_are_wrong(authority: Authority) -> None:
    with pytest.raises(CvrError, match="certificate needs its key"):
        Tls(cert_file=authority.file).credentials()
    with pytest.raises(CvrError, match="no PEM file nowhere.pem"):
        Tls(ca_file="nowhere.pem").credentials()


def test_keepalive_is_off_unless_asked_for(target: str) -> None:
    assert not any("keepalive" in name for name, _ in Connection().options())
    assert ("grpc.keepalive_time_ms", 300_000) in Connection(keepalive_seconds=300).options()
    assert ("grpc.max_receive_message_length", 8 << 20) in Connection(max_message_mb=8).options()
    with Client(target, options=Options(Connection(keepalive_seconds=300))) as client:
        assert client.status() == {3: "AVAILABLE"}
