"""The compose project under test: name, images and folder of its own, ports the engine picks."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from tests.conftest import ROOT

SERVICES = ("counter", "matcher", "sampler", "trainer")
USER = 10_001


def require_engine() -> None:
    """Skip the test where containers cannot be run."""
    if not shutil.which("docker"):
        pytest.skip("no docker command")
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"`{' '.join(command)}` fails: {done.stderr.strip().splitlines()[-1:]}")


def open_to_all(folder: Path) -> None:
    """Let the services' user read and write everything below a folder."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def hashes(output: Path) -> dict[str, str]:
    """Return the hash of each dataset below an output folder, by its kind."""
    found = [json.loads(path.read_text()) for path in output.glob("datasets/*/manifest.json")]
    return {one["identity"]["kind"]: one["dataset_hash"] for one in found}


@dataclass(frozen=True)
class Compose:
    """`docker compose` on the project's file, with /data at `data`, and on more files over it."""

    data: Path
    overlays: tuple[Path, ...] = ()

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a compose command; its output goes to the test's own if it fails."""
        done = subprocess.run(
            ["docker", "compose", *words],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    @contextmanager
    def running(self, *words: str) -> Iterator[Self]:
        """Redis, the services, and what `compose up` has in these words: built, and healthy."""
        self("build", *SERVICES)
        try:
            self("up", "--detach", "--wait", *words, "redis", *SERVICES)
            yield self
        finally:
            print(self("logs", "--no-color", "--tail", "60", check=False).stdout)
            self("--profile", "*", "down", "--volumes", "--timeout", "5")

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a compose command, whose output is read at its end."""
        return subprocess.Popen(
            ["docker", "compose", *words],
            env=self.environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What .env says otherwise: nothing that another project on this machine may use."""
        names = [line.split("=")[0] for line in (ROOT / ".env").read_text().splitlines()]
        ports = {name: "0" for name in names if name.endswith(("_PORT", "_PORTS"))}
        images = {
            f"{name.upper()}_IMAGE": f"clipcurate/{name}:test" for name in (*SERVICES, "demo")
        }
        own = {"COMPOSE_PROJECT_NAME": f"clipcurate-{os.getpid()}", "DATA": str(self.data)}
        own["COMPOSE_FILE"] = ":".join(map(str, (ROOT / "docker-compose.yml", *self.overlays)))
        return {**os.environ, **ports, **images, **own}

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers."""
        return self("ps", "--quiet", service).stdout.split()

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a service's first container."""
        return self("exec", "-T", service, *command, check=False)


def engine(*words: str) -> str:
    """Run a command of the engine and return what it prints."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def healthy(container: str) -> bool:
    """Say whether a container runs and its own check finds it well."""
    state = inspect([container])[0]["State"]
    return bool(state["Running"] and state["Health"]["Status"] == "healthy")


def inspect(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the engine knows of images or containers."""
    found: list[dict[str, Any]] = json.loads(engine("inspect", *names))
    return found
