"""Certificates for trying mutual TLS: a service takes the others' clients, and nobody else's."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clipcurate.errors import ForbiddenError, UnavailableError
from clipcurate.rpc.clients import MatcherClient
from clipcurate.rpc.server import Server
from clipcurate.rpc.settings import SecuritySettings, ServiceSettings
from clipcurate.rpc.v1 import matcher_pb2_grpc
from services.matcher.library import Library
from services.matcher.service import MatcherService
from services.matcher.tables import TableStore
from tests.certificates import FILES, settings_of
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl command")


def make(folder: Path) -> Path:
    subprocess.run([ROOT / "scripts" / "dev-certificates", folder], check=True)
    return folder


def test_services_trust_one_authority_and_no_other(tmp_path: Path) -> None:
    ours, others = make(tmp_path / "ours"), make(tmp_path / "others")
    with matching(ours, tmp_path) as address:
        assert ask(address, ours / "client") == []
        with pytest.raises(UnavailableError, match="is not signed by"):
            ask(address, others / "client")


def test_nobody_else_enters_the_folder_and_services_can_read_what_they_mount(
    tmp_path: Path,
) -> None:
    folder = make(tmp_path / "certificates")
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "authority.key").stat().st_mode & 0o077 == 0
    for name in ("redis", "counter", "matcher", "sampler", "trainer", "client"):
        assert sorted(path.name for path in (folder / name).iterdir()) == sorted(FILES.values())
        for path in (folder / name, *(folder / name).iterdir()):
            assert path.stat().st_mode & 0o004


def test_another_run_renews_them_under_the_same_authority(tmp_path: Path) -> None:
    folder = make(tmp_path / "certificates")
    with matching(folder, tmp_path) as address:
        before = (folder / "client" / "tls.crt").read_bytes()
        make(folder)
        assert (folder / "client" / "tls.crt").read_bytes() != before
        assert ask(address, folder / "client") == []


def test_they_name_services_by_uri_too(tmp_path: Path) -> None:
    folder = make(tmp_path / "certificates")
    names = {"spiffe://clipcurate/client": "client"}
    with matching(folder, tmp_path, identities=names) as address:
        assert ask(address, folder / "client") == []
        with pytest.raises(ForbiddenError, match="spiffe://clipcurate/matcher, matcher"):
            ask(address, folder / "matcher")


@contextmanager
def matching(folder: Path, tmp_path: Path, **more: Any) -> Iterator[str]:
    """A matcher with its certificate: its address."""
    library = Library(TableStore(tmp_path / "tables"), 0)
    settings = ServiceSettings(listen="localhost:0", **settings_of(folder / "matcher"), **more)
    server = Server(settings, ["clipcurate.v1.Matcher"])
    matcher_pb2_grpc.add_MatcherServicer_to_server(MatcherService(library), server.grpc)
    try:
        yield server.start()
    finally:
        server.grpc.stop(None).wait()


def ask(address: str, files: Path) -> object:
    with MatcherClient(address, SecuritySettings(**settings_of(files))) as client:
        return client.list_metadata()
