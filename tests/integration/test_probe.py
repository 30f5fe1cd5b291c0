"""The probe that containers run, against real servers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from clipcurate.rpc.server import Server
from clipcurate.rpc.settings import ServiceSettings

NAME = "clipcurate.v1.Matcher"


def probe(address: str, *name: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "clipcurate.rpc.probe", address, *name],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr.strip()


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    server = Server(ServiceSettings(), [NAME])
    yield server, server.start()
    server.grpc.stop(None).wait()


def test_healthy_only_while_the_service_says_so(server: tuple[Server, str]) -> None:
    running, address = server
    assert probe(address) == (1, f"{address}: not serving")
    running.set_ready(True)
    assert probe(address) == (0, "")
    assert probe(address, NAME) == (0, "")
    running.set_ready(False)
    assert probe(address) == probe(address, NAME) == (1, f"{address}: not serving")


def test_alive_also_while_not_ready(server: tuple[Server, str]) -> None:
    running, address = server
    assert probe(address, "liveness") == (0, "")
    running.stopping.set()
    running.set_ready(True)
    assert probe(address) == (1, f"{address}: not serving")
    assert probe(address, "liveness") == (0, "")


def test_nobody_knows_the_name(server: tuple[Server, str]) -> None:
    status, words = probe(server[1], "unknown")
    assert (status, "NOT_FOUND" in words) == (1, True)


def test_nobody_listens(unused_address: str) -> None:
    status, words = probe(unused_address)
    assert status == 1
    assert words.startswith(f"{unused_address}: UNAVAILABLE: ")


@pytest.fixture
def unused_address() -> str:
    server = Server(ServiceSettings(), [NAME])
    address = server.start()
    server.grpc.stop(None).wait()
    return address


def test_over_mutual_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pair.private_key_pem.write_to_path(tmp_path / "key.pem")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    files = {"certificate": "cert.pem", "key": "key.pem", "authority": "ca.pem"}
    paths = {f"tls_{name}": str(tmp_path / file) for name, file in files.items()}
    server = Server(ServiceSettings(listen="localhost:0", **paths), [NAME])  # type: ignore[arg-type]
    address = server.start()
    server.set_ready(True)
    environment = {f"CLIPCURATE_{name.upper()}": path for name, path in paths.items()}
    assert probe(address, **environment) == (0, "")
    status, words = probe(address)  # plaintext to a TLS server
    assert (status, "UNAVAILABLE" in words) == (1, True)
    server.grpc.stop(None).wait()
