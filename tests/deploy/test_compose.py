"""Images are built, compose brings them up, and pools go through whatever is killed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.deploy.compose import (
    SERVICES,
    USER,
    Compose,
    engine,
    hashes,
    inspect,
    open_to_all,
    require_engine,
)
from tests.pools import make_pool, write_metadata
from tests.waiting import wait_until

PARTS = 15
ROWS = 60
"""Of each part of a pool: so few that a pool has hundreds of tasks, and faults come in between."""
WANTED = ("--emit", "matched", "--emit", "balanced", "--t", "40", "--task-rows", "1")
SIZE_LIMIT = 230_000_000
"""Of an image without torch, over its base; docs/operations/deploy.md says what it is spent on."""

pytestmark = pytest.mark.timeout(1500)  # builds all images first


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that is /data in all containers: two pools, which are two runs."""
    folder = tmp_path_factory.mktemp("data")
    for number in (1, 2):
        for part in range(PARTS):
            make_pool(folder / f"pool-{number}" / f"{part:02}", ROWS, seed=number * PARTS + part)
    write_metadata(folder / "metadata.json")
    open_to_all(folder)
    return folder


@pytest.fixture(scope="module")
def compose(data: Path) -> Iterator[Compose]:
    """The services, built and healthy, three matchers."""
    require_engine()
    with Compose(data).running("--scale", "matcher=3") as compose:
        yield compose


def submit(number: int) -> list[str]:
    """The client's words for one of the pools."""
    pool = ("--pool", f"/data/pool-{number}", "--metadata", "/data/metadata.json")
    command = ("run", "--rm", "-T", "client", "submit", "--watch")
    return [*command, *pool, "--output", f"/data/out-{number}", *WANTED]


def embedded(number: int, data: Path, output: Path, command_line: CommandLine) -> dict[str, str]:
    """What `clipcurate run` on this machine makes of the same pool."""
    words = ("run", "--pool", data / f"pool-{number}", "--metadata", data / "metadata.json")
    done = command_line(*words, "--output", output, *WANTED)
    assert done.returncode == 0, done.stderr
    return hashes(output)


def test_a_pool_goes_through_three_matchers(
    compose: Compose, data: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    assert len(compose.containers("matcher")) == 3
    done = compose(*submit(1))
    assert len(done.stdout.split()) == 2
    found = hashes(data / "out-1")
    assert set(found) == {"matched", "balanced"}
    assert found == embedded(1, data, tmp_path / "out", command_line)
    lines = [line for line in compose("logs", "matcher").stdout.splitlines() if '"claimed"' in line]
    for number in (1, 2, 3):
        assert any(f"matcher-{number} " in line for line in lines), f"matcher {number} did nothing"


def test_the_same_bytes_whatever_is_killed(
    compose: Compose, data: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    waiting = compose.start(*submit(2))

    struck: list[int] = []

    def matched() -> int:
        return len(list((data / "out-2").glob("runs/*/index/*.arrow")))

    for number, service in enumerate(("matcher", "counter", "redis")):
        after = 20 + 40 * number
        victim = compose.containers(service)[0]
        wait_until(lambda after=after: matched() >= after, 120, f"{after} tasks are matched")
        engine("kill", victim)
        struck.append(matched())
        engine("start", victim)
    output, _ = waiting.communicate(timeout=400)
    assert waiting.returncode == 0, output
    assert max(struck) < matched(), f"killed after {struck} of {matched()} tasks: too late"
    assert hashes(data / "out-2") == embedded(2, data, tmp_path / "out", command_line)


def test_what_runs_has_no_rights_that_it_does_not_need(compose: Compose) -> None:
    for service in SERVICES:
        for one in inspect(compose.containers(service)):
            host = one["HostConfig"]
            assert host["ReadonlyRootfs"]
            assert host["CapDrop"] == ["ALL"]
            assert "no-new-privileges:true" in host["SecurityOpt"]
            assert host["Memory"] > 0
            assert one["Config"]["User"] == f"{USER}:{USER}"
            bound = [place for places in host["PortBindings"].values() for place in places]
            assert {place["HostIp"] for place in bound} == {"127.0.0.1"}
        refused = compose.inside(service, "touch", "/opt/clipcurate/here")
        assert (refused.returncode, "Read-only" in refused.stderr) == (1, True)
    redis = inspect(compose.containers("redis"))[0]
    assert redis["Config"]["User"] == "redis"
    assert not redis["HostConfig"]["PortBindings"]


def test_only_the_counter_reaches_redis(compose: Compose) -> None:
    reach = "import socket; socket.create_connection(('redis', 6379), 5)"
    assert compose.inside("counter", "python", "-c", reach).returncode == 0
    for service in ("matcher", "sampler", "trainer"):
        assert compose.inside(service, "python", "-c", reach).returncode == 1
    unknown = compose.inside("redis", "env", "REDISCLI_AUTH=", "redis-cli", "-e", "ping")
    assert "NOAUTH" in unknown.stdout + unknown.stderr


CROP = """
import io, numpy, PIL.Image
from clipcurate.training.config import DataConfig
from clipcurate.training.crops import cropped
for kind in ("JPEG", "PNG"):
    image, out = io.BytesIO(), numpy.empty((32, 32, 3), numpy.uint8)
    PIL.Image.new("RGB", (300, 200)).save(image, kind)
    assert cropped(image.getvalue(), DataConfig(), numpy.zeros((10, 4)), out)
"""


def test_kernels_were_compiled_ahead_and_no_compiler_is_left(compose: Compose) -> None:
    """Pools have gone through matcher and sampler; nothing was trained, so an image is cropped."""
    cropping = compose.inside("trainer", "python", "-c", CROP)
    assert cropping.returncode == 0, cropping.stderr
    for service in SERVICES:
        compilers = compose.inside(service, "sh", "-c", "command -v cc gcc g++ clang pip")
        assert compilers.stdout == ""
        numba = compose.inside(service, "python", "-c", "import numba")
        assert "ModuleNotFoundError" in numba.stderr


def test_images_are_small_and_say_what_they_are(compose: Compose) -> None:
    base = compose("config", "--format", "json").stdout
    name = json.loads(base)["services"]["counter"]["build"]["args"]["PYTHON_IMAGE"]
    (python,) = inspect([name])
    for service in SERVICES:
        (image,) = inspect([f"clipcurate/{service}:test"])
        assert image["Config"]["Cmd"] == ["python", "-m", f"services.{service}"]
        assert image["Config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert "Healthcheck" not in image["Config"]
        if service != "trainer":
            assert image["Size"] - python["Size"] < SIZE_LIMIT


def test_sigterm_drains_and_ends_well(compose: Compose) -> None:
    stopping = {service: compose.containers(service) for service in SERVICES}
    compose("stop", *SERVICES)
    for service, containers in stopping.items():
        for one in inspect(containers):
            assert one["State"]["ExitCode"] == 0, service
    compose("up", "--detach", "--wait", "redis", *SERVICES)


def test_the_demo_ends_with_the_status_of_its_pipeline(compose: Compose, data: Path) -> None:
    compose("--profile", "demo", "build", "demo")
    done = compose("--profile", "demo", "run", "--rm", "-T", "demo", check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert set(hashes(data / "demo" / "run")) == {"raw", "matched", "balanced"}
    assert (data / "demo" / "figure1.png").stat().st_size > 0
    failed = compose("run", "--rm", "-T", "demo", "python", "-m", "demo", "--output", "/data",
                     "--server", "counter:50051", check=False)  # fmt: skip
    assert failed.returncode == 1
