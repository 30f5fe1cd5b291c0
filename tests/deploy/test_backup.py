"""The commands of docs/operations/backup.md, as they stand there, in the middle of a run."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, CommandLine
from tests.deploy.compose import Compose, engine, hashes, inspect, open_to_all, require_engine
from tests.deploy.manifests import K8S
from tests.pools import make_parquet_pool, write_metadata
from tests.waiting import wait_until

FILES = 20
EARLY, LATER = 10, 60
"""Of 120 tasks: how many are matched when Redis is backed up, and when it is lost."""
WANTED = ("--emit", "matched", "--emit", "balanced", "--t", "40", "--task-rows", "1")


def commands(section: str) -> list[str]:
    """Return the blocks of commands in one section of the page."""
    page = (ROOT / "docs" / "operations" / "backup.md").read_text()
    (text,) = (part for part in page.split("\n## ")[1:] if part.startswith(section))
    found: list[str] = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return found


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Compose]:
    """Redis and the services that a run needs."""
    require_engine()
    data = tmp_path / "data"
    make_parquet_pool(data / "pool", FILES, 60)
    write_metadata(data / "metadata.json")
    open_to_all(data)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    with Compose(data).running() as compose:
        yield compose


def run(block: str, compose: Compose, folder: Path) -> None:
    """Run a block of the page's commands in a shell."""
    command = ["bash", "-euo", "pipefail", "-c", block]
    environment = compose.environment
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def lose_redis(compose: Compose) -> None:
    """Remove Redis's container and its volume, with all that is in it."""
    (redis,) = inspect(compose.containers("redis"))
    compose("rm", "--stop", "--force", "redis")
    (volume,) = (mount["Name"] for mount in redis["Mounts"] if mount["Type"] == "volume")
    engine("volume", "rm", volume)


@pytest.mark.timeout(1500)  # builds images, where nobody has yet
def test_a_run_survives_the_loss_of_redis_by_these_commands(
    compose: Compose, tmp_path: Path, command_line: CommandLine
) -> None:
    backup, restore = commands("docker compose")
    output = compose.data / "out"
    pool = ("--pool", "/data/pool", "--metadata", "/data/metadata.json", "--output", "/data/out")
    waiting = compose.start("run", "--rm", "-T", "client", "submit", "--watch", *pool, *WANTED)

    def matched() -> int:
        return len(list(output.glob("runs/*/index/*.arrow")))

    wait_until(lambda: matched() >= EARLY, 120, "some tasks are matched")
    run(backup, compose, tmp_path)
    wait_until(lambda: matched() >= LATER, 120, "more tasks are matched")
    lose_redis(compose)
    run(restore, compose, tmp_path)
    said, _ = waiting.communicate(timeout=400)
    assert waiting.returncode == 0, said
    words = ("run", "--pool", compose.data / "pool", "--metadata", compose.data / "metadata.json")
    done = command_line(*words, "--output", tmp_path / "embedded", *WANTED)
    assert done.returncode == 0, done.stderr
    assert hashes(output) == hashes(tmp_path / "embedded")


def test_the_pod_that_restores_has_redis_volume_to_itself() -> None:
    pod = yaml.safe_load((K8S / "examples" / "redis-restore.yaml").read_text())
    documents = list(yaml.safe_load_all((K8S / "components/redis/redis.yaml").read_text()))
    (redis,) = (one for one in documents if one["kind"] == "StatefulSet")
    (template,) = redis["spec"]["volumeClaimTemplates"]
    claim = f"{template['metadata']['name']}-{redis['metadata']['name']}-0"
    (volume,) = pod["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim
    assert pod["spec"]["securityContext"] == redis["spec"]["template"]["spec"]["securityContext"]
    selected = redis["spec"]["selector"]["matchLabels"]
    assert not selected.items() <= pod["metadata"]["labels"].items()
    assert "kubectl -n clipcurate apply -f k8s/examples/redis-restore.yaml" in "".join(
        commands("Kubernetes")
    )
