"""TLS between real servers and clients: who gets in, as whom, and for how long."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic_settings import SettingsConfigDict

from clipcurate.errors import ForbiddenError, InvalidInputError, UnavailableError
from clipcurate.rpc.clients import LedgerClient, MatcherClient
from clipcurate.rpc.log_line import LogLine
from clipcurate.rpc.logs import JsonFormatter
from clipcurate.rpc.server import Server
from clipcurate.rpc.settings import SecuritySettings, ServiceSettings
from clipcurate.rpc.v1 import ledger_pb2, ledger_pb2_grpc, matcher_pb2, matcher_pb2_grpc
from tests.certificates import FILES, Authority, settings_of
from tests.waiting import wait_until

SERVICES = ["clipcurate.v1.Matcher", "clipcurate.v1.Ledger"]


class Matching(matcher_pb2_grpc.MatcherServicer):
    """Answers; a stream ends when the test says so."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def ListMetadata(self, request: object, context: object) -> object:
        return matcher_pb2.ListMetadataResponse()

    def MatchStream(self, requests: object, context: object) -> Iterator[object]:
        yield matcher_pb2.MatchStreamResponse(batch_id=0, hits={"row_offsets": [0]})
        assert self.go_on.wait(60)
        yield matcher_pb2.MatchStreamResponse(batch_id=1, hits={"row_offsets": [0, 0]})


class Ledger(ledger_pb2_grpc.LedgerServicer):
    """Has no task for anybody."""

    def ClaimTask(self, request: object, context: object) -> object:
        return ledger_pb2.ClaimTaskResponse()


@contextmanager
def serving(folder: Path, **more: Any) -> Iterator[tuple[Server, str, Matching]]:
    """A server of two services with the certificate in `folder`."""
    listen = more.pop("listen", "localhost:0")
    server = Server(ServiceSettings(listen=listen, **settings_of(folder) | more), SERVICES)
    matching = Matching()
    matcher_pb2_grpc.add_MatcherServicer_to_server(matching, server.grpc)
    ledger_pb2_grpc.add_LedgerServicer_to_server(Ledger(), server.grpc)
    try:
        yield server, server.start(), matching
    finally:
        matching.go_on.set()
        server.grpc.stop(None).wait()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "others")


def as_(folder: Path, **changes: object) -> SecuritySettings:
    return SecuritySettings(**settings_of(folder) | changes)  # type: ignore[arg-type]


def ask(address: str, security: SecuritySettings | None) -> object:
    with MatcherClient(address, security) as client:
        return client.list_metadata()


def as_lines(caplog: pytest.LogCaptureFixture) -> list[LogLine]:
    """What was logged, as a service writes it."""
    write = JsonFormatter("matcher").format
    return [LogLine.model_validate_json(write(record)) for record in caplog.records]


def refusal(address: str, security: SecuritySettings | None) -> str:
    with pytest.raises(UnavailableError) as caught:
        ask(address, security)
    return str(caught.value)


def test_who_shows_no_certificate_is_told_to(authority: Authority) -> None:
    client = authority.issue("client")
    with serving(authority.issue("matcher")) as (_, address, _):
        assert ask(address, as_(client)) == []
        anonymous = as_(client, tls_certificate=None, tls_key=None)
        assert "set CLIPCURATE_TLS_CERTIFICATE and CLIPCURATE_TLS_KEY" in refusal(
            address, anonymous
        )
        words = refusal(address, None)
        assert "does the service speak TLS?" in words
        assert "set CLIPCURATE_TLS_AUTHORITY" in words


def test_who_shows_a_wrong_certificate_is_told_which(
    authority: Authority, other: Authority
) -> None:
    ours = authority.issue("client")
    stranger = other.issue("client")
    late = authority.issue("client", into="late", lifetime=-60)
    with serving(authority.issue("matcher")) as (_, address, _):
        for folder in (stranger, late):
            security = as_(folder, tls_authority=ours / "ca.crt")
            assert f"refuses the certificate {folder / 'tls.crt'}" in refusal(address, security)


def test_a_service_of_another_authority_is_not_believed(
    authority: Authority, other: Authority
) -> None:
    stranger = other.issue("client")
    with serving(authority.issue("matcher")) as (_, address, _):
        words = refusal(address, as_(stranger))
    assert f"is not signed by {stranger / 'ca.crt'}" in words
    assert "let CLIPCURATE_TLS_AUTHORITY name" in words


def test_settings_are_named_as_the_caller_knows_them(authority: Authority) -> None:
    class MatcherSettings(ServiceSettings):
        model_config = SettingsConfigDict(env_prefix="CLIPCURATE_MATCHER_")

    files = settings_of(authority.issue("matcher")) | {"tls_certificate": None, "tls_key": None}
    with serving(authority.issue("counter")) as (_, address, _):
        words = refusal(address, MatcherSettings(**files))
    assert "set CLIPCURATE_MATCHER_TLS_CERTIFICATE" in words


def test_an_expired_service_is_said_to_be(authority: Authority) -> None:
    late = authority.issue("matcher", lifetime=-60)
    with serving(late) as (_, address, _):
        words = refusal(address, as_(authority.issue("client")))
    assert "the service's certificate has expired: renew it there" in words


def test_a_service_by_another_name_is_said_to_be(authority: Authority) -> None:
    with serving(authority.issue("matcher"), listen="127.0.0.2:0") as (_, address, _):
        words = refusal(address, as_(authority.issue("client")))
    assert "call the service by a name that its certificate holds" in words


def test_tls_to_a_plaintext_service_is_said_to_be(authority: Authority) -> None:
    nothing = dict.fromkeys(settings_of(authority.folder))
    with serving(authority.folder, **nothing) as (_, address, _):
        words = refusal(address, as_(authority.issue("client")))
    assert "the service does not speak TLS: take CLIPCURATE_TLS_AUTHORITY away" in words


def test_each_may_call_what_the_table_allows(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(authority.issue("counter")) as (_, address, _):
        with LedgerClient(address, as_(authority.issue("matcher"))) as worker:
            assert worker.claim("m", [ledger_pb2.STAGE_MATCH]) is None
            with pytest.raises(ForbiddenError, match=r"^matcher may not .*/CreateRun; client"):
                worker.create_run("r", ledger_pb2.RunSpec(), [])
        with LedgerClient(address, as_(authority.issue("client"))) as client:
            with pytest.raises(ForbiddenError, match="matcher, sampler, trainer may"):
                client.claim("c", [ledger_pb2.STAGE_MATCH])
        with LedgerClient(address, as_(authority.issue("somebody"))) as nobody:
            with pytest.raises(ForbiddenError, match=r"unknown \(somebody, localhost\) may not"):
                nobody.list_runs()
        with MatcherClient(address, as_(authority.issue("matcher"))) as worker:
            with pytest.raises(ForbiddenError, match="MatchStream"):
                next(worker.match_stream([["x"]]))
    assert "refused: matcher may not call clipcurate.v1.Ledger/CreateRun" in caplog.text
    refused = [line for line in as_lines(caplog) if line.message.startswith("refused")]
    assert all(line.peer for line in refused)


def test_a_certificate_of_two_services_is_nobodys(authority: Authority) -> None:
    both = authority.issue("client", "matcher")
    with serving(authority.issue("matcher")) as (_, address, _):
        with pytest.raises(ForbiddenError, match="client and matcher may not call"):
            ask(address, as_(both))


def test_other_names_can_stand_for_a_service(authority: Authority) -> None:
    named = {"client.team-a.example": "client"}
    ours, bare = authority.issue("client.team-a.example"), authority.issue("client")
    with serving(authority.issue("matcher"), identities=named) as (_, address, _):
        assert ask(address, as_(ours)) == []
        with pytest.raises(ForbiddenError, match=r"unknown \(client, localhost\)"):
            ask(address, as_(bare))


def test_renewed_certificates_are_used_by_both_sides_at_once(
    authority: Authority, other: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """The authority changes too; who began a call goes on with it."""
    caplog.set_level("INFO")
    service, client = authority.issue("matcher"), authority.issue("client")
    with serving(service) as (_, address, matching), MatcherClient(address, as_(client)) as known:
        assert known.list_metadata() == []
        stream = known.match_stream([["x"], ["y"]])
        assert len(next(stream)) == 0
        other.folder = authority.folder
        other.issue("matcher")
        stranger = as_(authority.issue("client", into="before"))
        assert "is not signed by" in refusal(address, stranger)
        other.issue("client")
        assert known.list_metadata() == []
        matching.go_on.set()
        assert len(next(stream)) == 1
        assert list(stream) == []
    read = {line.files for line in as_lines(caplog) if line.message == "certificates read again"}
    assert f"{service / 'tls.crt'}, {service / 'tls.key'}, {service / 'ca.crt'}" in read


def test_a_client_survives_the_expiry_of_its_certificate(authority: Authority) -> None:
    service = authority.issue("matcher")
    client = authority.issue("client", lifetime=2)
    with serving(service, max_connection_age_seconds=0.2, drain_seconds=0.1) as (_, address, _):
        with MatcherClient(address, as_(client)) as known:
            assert known.list_metadata() == []
            wait_until(lambda: _refused(known), 30, "the certificate has expired")
            authority.issue("client")
            assert known.list_metadata() == []


def _refused(client: MatcherClient) -> bool:
    try:
        client.list_metadata()
    except UnavailableError:
        return True
    return False


def test_a_half_written_pair_changes_nothing(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    service, client = authority.issue("matcher"), as_(authority.issue("client"))
    fresh = authority.issue("matcher", into="fresh")
    with serving(service) as (_, address, _):
        for name in FILES.values():
            file = service / name
            content = (fresh / name).read_bytes()
            file.unlink()
            file.write_bytes(content)
            if name == "tls.crt":
                assert ask(address, client) == []
                assert f"{file}, {service / 'tls.key'}: not a certificate" in caplog.text
                assert "what was read before stays in use" in caplog.text
        (service / "tls.key").unlink()
        assert ask(address, client) == []
        assert f"{service / 'tls.key'}: cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tls_key": None}, "both a certificate and a key"),
        ({"tls_certificate": None, "tls_key": None}, "would listen in plaintext"),
        ({"tls_authority": "tls.key"}, "tls.key: not an authority's certificates"),
        ({"tls_key": "ca.crt"}, "not a certificate in PEM and its private key"),
        ({"tls_key": "nothing"}, "nothing: cannot be read"),
    ],
)
def test_files_that_are_not_in_order_are_refused_at_once(
    authority: Authority, changes: dict[str, Any], message: str
) -> None:
    folder = authority.issue("matcher")
    files = {name: value and folder / value for name, value in changes.items()}
    with pytest.raises(InvalidInputError, match=message), serving(folder, **files):
        pass


def test_a_key_with_a_password_is_refused_without_asking_for_it(authority: Authority) -> None:
    folder = authority.issue("matcher")
    sealed = folder / "sealed.key"
    sealed.write_bytes(_sealed((folder / "tls.key").read_bytes()))
    with pytest.raises(InvalidInputError, match="without a password"):
        with serving(folder, tls_key=sealed):
            pass


def _sealed(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization as form

    plain = form.load_pem_private_key(key, None)
    locked = form.BestAvailableEncryption(b"secret")
    return plain.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, locked)


@pytest.mark.parametrize(("listen", "warned"), [("127.0.0.1:0", False), ("0.0.0.0:0", True)])
def test_plaintext_for_other_machines_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, listen: str, warned: bool
) -> None:
    with serving(tmp_path, listen=listen, **dict.fromkeys(settings_of(tmp_path))):
        assert ("whoever reaches this address may call everything" in caplog.text) is warned


def test_services_show_the_certificate_of_their_clients_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLIPCURATE_TLS_CERTIFICATE", "/tls/tls.crt")
    monkeypatch.setenv("CLIPCURATE_TLS_AUTHORITY", "")
    found = ServiceSettings()
    assert found.tls_certificate == Path("/tls/tls.crt")
    assert found.tls_authority is None
    assert ServiceSettings(tls_certificate="/own.crt").tls_certificate == Path("/own.crt")  # type: ignore[arg-type]


def test_health_is_for_every_certificate(authority: Authority) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from clipcurate.rpc.clients import open_channel

    with serving(authority.issue("matcher")) as (server, address, _):
        server.set_ready(True)
        with open_channel(address, as_(authority.issue("node"))) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            status = check(health_pb2.HealthCheckRequest(), timeout=10).status
            assert status == health_pb2.HealthCheckResponse.SERVING
            ready = threading.Event()
            channel.subscribe(
                lambda state: ready.set() if state is grpc.ChannelConnectivity.READY else None, True
            )
            assert ready.wait(10)
