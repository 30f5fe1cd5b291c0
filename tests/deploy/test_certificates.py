"""Certificates for trying mutual TLS: a service takes the others' clients, and nobody else's."""

import shutil
import subprocess
from pathlib import Path

import pytest

from clipcurate.errors import UnavailableError
from clipcurate.rpc.clients import MatcherClient
from clipcurate.rpc.server import Server
from clipcurate.rpc.settings import SecuritySettings, ServiceSettings
from clipcurate.rpc.v1 import matcher_pb2_grpc
from services.matcher.library import Library
from services.matcher.service import MatcherService
from services.matcher.tables import TableStore
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command")


def make(folder: Path) -> Path:
    subprocess.run([ROOT / "scripts" / "dev-certificates", folder], check=True)
    return folder


def security(folder: Path) -> dict[str, Path]:
    files = {"certificate": "tls.crt", "key": "tls.key", "authority": "ca.crt"}
    return {f"tls_{name}": folder / file for name, file in files.items()}


def test_services_trust_one_authority_and_no_other(tmp_path: Path) -> None:
    ours, others = make(tmp_path / "ours"), make(tmp_path / "others")
    assert (ours / "counter" / "tls.key").stat().st_mode & 0o077 == 0
    library = Library(TableStore(tmp_path / "tables"), 0)
    settings = ServiceSettings(listen="localhost:0", **security(ours / "matcher"))  # type: ignore[arg-type]
    server = Server(settings, ["clipcurate.v1.Matcher"])
    matcher_pb2_grpc.add_MatcherServicer_to_server(MatcherService(library), server.grpc)
    address = server.start()
    known = SecuritySettings(**security(ours / "client"))  # type: ignore[arg-type]
    with MatcherClient(address, known) as client:
        assert client.list_metadata() == []
    stranger = SecuritySettings(**security(others / "client"))  # type: ignore[arg-type]
    with MatcherClient(address, stranger) as client, pytest.raises(UnavailableError):
        client.list_metadata()
    server.grpc.stop(None).wait()
