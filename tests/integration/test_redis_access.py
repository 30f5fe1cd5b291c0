"""The counter and a real Redis with TLS, passwords and rights: who gets in, and what is said."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from clipcurate.errors import UnavailableError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.probe import ailment
from services.counter.access import Access
from services.counter.refusals import remedy
from services.counter.store import FAILURES, Store, translate
from tests.certificates import Authority
from tests.guarded_redis import REDIS, RIGHTS, Guarded, guarded_redis
from tests.ports import free_port
from tests.redis_servers import server
from tests.waiting import wait_until

SCRIPT = "redis.call('time'); return redis.call('del', KEYS[1])"

pytestmark = pytest.mark.skipif(not REDIS, reason="no redis-server of a system package, with TLS")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded_redis(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture
def user(guarded: Guarded) -> Guarded:
    """With the counter's user, all its rights and its password."""
    guarded.user(">its secret", *RIGHTS.split())
    return guarded


def refusal(url: str, access: Access) -> str:
    """What a client of the counter is told, and the counter's log says."""
    with closing(Store(url, access)) as store:
        said = store.ailment() or store.forbids()
        try:
            store.redis.eval(SCRIPT, 1, "clipcurate:x")
        except FAILURES as error:
            translated = translate(error)
            assert isinstance(translated, UnavailableError)
            assert remedy(error) in str(translated)
            assert remedy(error) in said
            assert "secret" not in said + str(translated)
            return str(translated)
    raise AssertionError("Redis let it in")


def test_user_password_and_certificate_open_the_door(user: Guarded) -> None:
    access = Access("counter", "its secret", **user.files)
    with closing(Store(user.url, access)) as store:
        assert store.ailment() == store.forbids() == ""


def test_without_or_with_a_wrong_password(user: Guarded) -> None:
    assert "CLIPCURATE_COUNTER_REDIS_PASSWORD or " in refusal(user.url, Access(**user.files))
    for access in (Access("counter", "a secret"), Access("nobody", "its secret")):
        words = refusal(user.url, Access(access.user, access.password, **user.files))
        assert (
            "Redis refuses this user and password: set CLIPCURATE_COUNTER_REDIS_PASSWORD" in words
        )


def test_without_or_with_a_wrong_authority(user: Guarded) -> None:
    for authority in (None, user.stranger.folder / "counter" / "ca.crt"):
        access = Access("counter", "its secret", **user.files | {"authority": authority})
        words = refusal(user.url, access)
        assert "CLIPCURATE_COUNTER_REDIS_TLS_AUTHORITY name the file" in words


def test_without_or_with_a_wrong_certificate(user: Guarded) -> None:
    strange = user.stranger.folder / "counter"
    for pair in ({}, {"certificate": strange / "tls.crt", "key": strange / "tls.key"}):
        files = {"authority": user.files["authority"], **pair}
        words = refusal(user.url, Access("counter", "its secret", **files))
        assert "CLIPCURATE_COUNTER_REDIS_TLS_CERTIFICATE and" in words


def test_by_a_name_that_is_not_redis_s(user: Guarded) -> None:
    url = f"rediss://127.0.0.2:{user.port}"
    user.admin.config_set("bind", "127.0.0.1 127.0.0.2")
    words = refusal(url, Access("counter", "its secret", **user.files))
    assert "CLIPCURATE_COUNTER_REDIS_URL name the host as the certificate does" in words


def test_in_plaintext(user: Guarded) -> None:
    words = refusal(f"redis://localhost:{user.port}", Access("counter", "its secret"))
    assert "let CLIPCURATE_COUNTER_REDIS_URL begin with rediss://" in words


def test_with_tls_to_a_redis_without(user: Guarded) -> None:
    port = free_port()
    url = f"rediss://localhost:{port}"
    with server(REDIS, port=port), closing(Store(url, Access(**user.files))) as store:
        words = store.ailment()  # Redis waits for more, so this takes a while
    assert "does Redis speak TLS if CLIPCURATE_COUNTER_REDIS_URL begins with rediss://?" in words


def test_with_files_that_went_away(user: Guarded, tmp_path: Path) -> None:
    files = {name: tmp_path / path.name for name, path in user.files.items()}
    for name, path in user.files.items():
        files[name].write_bytes(path.read_bytes())
    with closing(Store(user.url, Access("counter", "its secret", **files))) as store:
        assert store.ailment() == ""
        files["authority"].unlink()
        store.redis.connection_pool.disconnect()
        assert "the files that CLIPCURATE_COUNTER_REDIS_TLS_* or" in store.ailment()


def test_a_socket_that_is_not_there_is_waited_for_without_advice(tmp_path: Path) -> None:
    with closing(Store(f"unix://{tmp_path}/socket")) as store:
        assert store.ailment().endswith("No such file or directory.")


@pytest.mark.parametrize(
    "rights",
    [
        "~clipcurate:* +get",
        RIGHTS.replace("clipcurate", "other"),
        RIGHTS.replace("+@write", ""),
        RIGHTS.replace("+@scripting", ""),
        RIGHTS.replace("+time", ""),
    ],
)
def test_with_too_few_rights(guarded: Guarded, rights: str) -> None:
    guarded.user(">its secret", *rights.split())
    words = refusal(guarded.url, Access("counter", "its secret", **guarded.files))
    assert "give it the keys and commands that docs/operations/security.md lists" in words


@contextmanager
def counting(folder: Path, url: str, **settings: object) -> Iterator[tuple[str, Path]]:
    """A counter of its own process: its address and its log."""
    ready, log = folder / "address", folder / "log"
    values = {"redis_url": url, "ready_file": ready, "require_durable": "true", **settings}
    own = {f"CLIPCURATE_COUNTER_{name.upper()}": str(value) for name, value in values.items()}
    with log.open("wb") as output:
        command = [sys.executable, "-m", "services.counter"]
        process = subprocess.Popen(command, env=os.environ | own, stdout=output, stderr=output)
    try:
        wait_until(lambda: ready.exists() and ready.read_text(), 60, "the counter listens")
        yield ready.read_text(), log
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def settings_of_files(guarded: Guarded) -> dict[str, Path]:
    return {f"redis_tls_{name}": path for name, path in guarded.files.items()}


def test_the_counter_waits_for_the_right_password_and_takes_new_ones(
    user: Guarded, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("a secret\n")
    credentials = settings_of_files(user) | {"redis_password_file": file}
    with counting(tmp_path, user.url, redis_user="counter", **credentials) as (address, log):
        words = "set CLIPCURATE_COUNTER_REDIS_PASSWORD or"
        wait_until(lambda: words in log.read_text(), 30, "the log says what to do")
        assert ailment(address).endswith("not serving")
        with LedgerClient(address) as client, pytest.raises(UnavailableError, match=words):
            client.list_runs()
        file.write_text("its secret\n")
        wait_until(lambda: not ailment(address), 30, "the counter is ready")
        user.user(">another secret", *RIGHTS.split())
        user.admin.execute_command("CLIENT", "KILL", "USER", "counter")
        wait_until(lambda: ailment(address), 30, "the counter is not ready")
        file.write_text("another secret\n")
        wait_until(lambda: not ailment(address), 30, "the counter is ready again")
        with LedgerClient(address) as client:
            assert not client.list_runs().runs
        assert "secret" not in log.read_text()


def test_the_counter_takes_renewed_certificates(user: Guarded, tmp_path: Path) -> None:
    login = {"redis_user": "counter", "redis_password": "its secret"}
    with counting(tmp_path, user.url, **settings_of_files(user), **login) as (address, log):
        wait_until(lambda: not ailment(address), 30, "the counter is ready")
        fresh = Authority(user.authority.folder)
        files = fresh.issue("redis")
        for name, file in (("cert", "tls.crt"), ("key", "tls.key"), ("ca-cert", "ca.crt")):
            user.admin.config_set(f"tls-{name}-file", str(files / file))
        user.admin.execute_command("CLIENT", "KILL", "USER", "counter")
        wait_until(lambda: ailment(address), 30, "the counter is not ready")
        assert "REDIS_TLS_AUTHORITY name the file" in log.read_text()
        fresh.issue("counter")
        wait_until(lambda: not ailment(address), 30, "the counter is ready again")
