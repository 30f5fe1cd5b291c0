"""Compose with TLS on every hop: a pool goes through, and whoever should not get in is told why."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import FILES, Authority
from tests.conftest import ROOT, CommandLine
from tests.deploy.compose import Compose, engine, hashes, open_to_all, require_engine
from tests.deploy.test_certificates import make
from tests.pools import make_pool, write_metadata
from tests.waiting import wait_until

WANTED = ("--emit", "matched", "--emit", "balanced", "--t", "40", "--task-rows", "20")
COUNTER = "CLIPCURATE_COUNTER_"
TLS = "CLIPCURATE_TLS_"

pytestmark = pytest.mark.timeout(1500)  # builds all images, where nobody has yet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/data in all containers, and certificates: ours, and those of an authority of others."""
    folder = tmp_path_factory.mktemp("tls")
    make(folder / "ours")
    others = Authority(folder / "others")
    for name in ("counter", "matcher", "client"):
        others.issue(name)
    make_pool(folder / "data" / "pool", 100)
    write_metadata(folder / "data" / "metadata.json")
    open_to_all(folder / "data")
    return folder


@pytest.fixture(scope="module")
def compose(folder: Path) -> Iterator[Compose]:
    """The services with mutual TLS, built and healthy."""
    require_engine()
    layered = Compose(folder / "data", (ROOT / "docker-compose.tls.yml",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CERTIFICATES", str(folder / "ours"))
        with layered.running() as compose:
            yield compose


@contextmanager
def another(
    compose: Compose, folder: Path, service: str, settings: dict[str, str], *command: str
) -> Iterator[tuple[str, Callable[[], str]]]:
    """One more container of a service, with other settings: its name, and what it has said."""
    mounts = {"client": folder / "ours" / "client", "others": folder / "others"}
    words = [f"--volume={path}:/{name}:ro" for name, path in mounts.items()]
    words += [f"--env={name}={value}" for name, value in settings.items()]
    name = f"clipcurate-{os.getpid()}-another-{service}"
    compose("run", "--detach", "--no-deps", "--name", name, *words, service, *command)
    try:
        yield name, lambda: said_by(name)
    finally:
        print(said_by(name)[-3000:])
        engine("rm", "--force", name)


def refused(*words: str) -> str:
    """Run a command of the engine that must fail; return what it says, on one line."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    return " ".join(done.stderr.split())


def said_by(name: str) -> str:
    """What a container has said."""
    done = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def runs_seen_by(name: str) -> str:
    """What a client of the counter in a container is told, on one line."""
    words = [f"--env={TLS}{key.upper()}=/client/{file}" for key, file in FILES.items()]
    return refused("exec", *words, name, "clipcurate", "runs", "--server", "localhost:50051")


def test_a_pool_goes_through_with_tls_on_every_hop(
    compose: Compose, folder: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    data = folder / "data"
    pool = ("--pool", "/data/pool", "--metadata", "/data/metadata.json", "--output", "/data/out")
    compose("run", "--rm", "-T", "client", "submit", "--watch", *pool, *WANTED)
    words = ("run", "--pool", data / "pool", "--metadata", data / "metadata.json")
    done = command_line(*words, "--output", tmp_path / "out", *WANTED)
    assert done.returncode == 0, done.stderr
    assert len(hashes(tmp_path / "out")) == 2
    assert hashes(data / "out") == hashes(tmp_path / "out")


def test_redis_is_backed_up_over_tls(compose: Compose) -> None:
    script = (ROOT / "scripts" / "redis-dump").read_text()
    dumped = compose.inside("redis", "sh", "-c", f"({script}) | head -c 5")
    assert (dumped.returncode, dumped.stdout) == (0, "REDIS"), dumped.stderr


def what_a_client_is_told(compose: Compose, others: Path, files: dict[str, str]) -> str:
    """What `runs` says, on one line, with other files, some of them from the folder `/others`."""
    words = [f"--env={TLS}{name}={value}" for name, value in files.items()]
    words.append(f"--volume={others}:/others:ro")
    done = compose("run", "--rm", "-T", *words, "client", "runs", check=False)
    assert done.returncode == 1
    return " ".join(done.stderr.split())


NOTHING = dict.fromkeys(("CERTIFICATE", "KEY", "AUTHORITY"), "")
STRANGER = {"CERTIFICATE": "/others/client/tls.crt", "KEY": "/others/client/tls.key"}


@pytest.mark.parametrize(
    ("files", "told", "logged"),
    [
        (NOTHING, f"set {TLS}AUTHORITY, and {TLS}CERTIFICATE", "WRONG_VERSION_NUMBER"),
        (
            {"CERTIFICATE": "", "KEY": ""},
            f"wants a certificate: set {TLS}CERTIFICATE and {TLS}KEY",
            "PEER_DID_NOT_RETURN_A_CERTIFICATE",
        ),
        (
            STRANGER,
            "the service refuses the certificate /others/client/tls.crt",
            "CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate",
        ),
    ],
    ids=["plaintext", "no certificate", "wrong certificate"],
)
def test_a_client_that_cannot_show_who_it_is(
    compose: Compose, folder: Path, files: dict[str, str], told: str, logged: str
) -> None:
    assert told in what_a_client_is_told(compose, folder / "others", files)
    assert logged in compose("logs", "counter").stdout


def test_a_client_of_another_authority_believes_no_service(compose: Compose, folder: Path) -> None:
    words = what_a_client_is_told(
        compose, folder / "others", {"AUTHORITY": "/others/client/ca.crt"}
    )
    assert f"is not signed by /others/client/ca.crt: let {TLS}AUTHORITY name" in words


def test_a_client_that_is_somebody_else(compose: Compose, folder: Path) -> None:
    refusal = "matcher may not call clipcurate.v1.Ledger/ListRuns; client may"
    files = {"CERTIFICATE": "/others/tls.crt", "KEY": "/others/tls.key"}
    assert refusal in what_a_client_is_told(compose, folder / "ours" / "matcher", files)
    assert f"refused: {refusal}" in compose("logs", "counter").stdout


def test_a_worker_with_a_wrong_certificate_says_so_and_goes_on_asking(
    compose: Compose, folder: Path
) -> None:
    files = {"CERTIFICATE": "/others/matcher/tls.crt", "KEY": "/others/matcher/tls.key"}
    settings = {TLS + name: path for name, path in files.items()}
    with another(compose, folder, "matcher", settings) as (_, said):
        words = "refuses the certificate /others/matcher/tls.crt"
        wait_until(lambda: said().count(words) > 1, 60, "the worker says so")


def of_redis(**settings: str) -> dict[str, str]:
    return {f"{COUNTER}REDIS_{name.upper()}": value for name, value in settings.items()}


NO_FILES = {"tls_certificate": "", "tls_key": "", "tls_authority": ""}


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        (of_redis(password="wrong"), f"user and password: set {COUNTER}REDIS_PASSWORD"),
        (of_redis(password=""), f"Redis wants a password: set {COUNTER}REDIS_PASSWORD"),
        (of_redis(tls_certificate="", tls_key=""), f"let {COUNTER}REDIS_TLS_CERTIFICATE"),
        (
            of_redis(
                tls_certificate="/others/counter/tls.crt", tls_key="/others/counter/tls.key"
            ),
            f"let {COUNTER}REDIS_TLS_CERTIFICATE",
        ),
        (of_redis(tls_authority="/others/counter/ca.crt"), f"let {COUNTER}REDIS_TLS_AUTHORITY"),
        (
            of_redis(url="redis://redis:6379/0", **NO_FILES),
            f"let {COUNTER}REDIS_URL begin with rediss://",
        ),
    ],
    ids=["wrong password", "no password", "no certificate", "wrong certificate",
         "wrong authority", "plaintext"],
)  # fmt: skip
def test_a_counter_that_redis_refuses(
    compose: Compose, folder: Path, settings: dict[str, str], remedy: str
) -> None:
    with another(compose, folder, "counter", settings) as (name, said):
        wait_until(lambda: remedy in said(), 60, "the counter says what to do")
        assert remedy in runs_seen_by(name)
        assert "not serving" in refused("exec", name, *PROBE)
        assert "wrong" not in said().replace("WRONG_VERSION_NUMBER", "")


PROBE = ("python", "-m", "clipcurate.rpc.probe", "localhost:50051")


def test_a_counter_without_the_way_to_redis(compose: Compose, folder: Path) -> None:
    """It runs where the matchers do: in a network that Redis is not in."""
    settings = of_redis(url="rediss://redis:6379/0") | {f"{COUNTER}LISTEN": "0.0.0.0:50051"}
    command = ("python", "-m", "services.counter")
    with another(compose, folder, "matcher", settings, *command) as (name, said):
        words = "is the counter in Redis's network?"
        wait_until(lambda: words in said(), 60, "the counter says what to do")
        assert words in runs_seen_by(name)
