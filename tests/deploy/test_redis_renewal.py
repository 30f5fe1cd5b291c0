"""Redis takes renewed certificates while it runs, as the component and compose start it."""

import os
import re
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.certificates import Authority
from tests.conftest import ROOT
from tests.deploy.manifests import Rendered, compose
from tests.guarded_redis import REDIS
from tests.ports import free_port
from tests.waiting import wait_until

SCRIPT = "reload-certificates.sh"

pytestmark = pytest.mark.skipif(not REDIS, reason="no redis-server of a system package, with TLS")

Here = Callable[[str], str]
"""Puts this machine's paths and port where a container's are."""
Start = tuple[list[str], dict[str, str]]
"""A container's command, and its environment but for passwords."""


def of_component(folder: Path, here: Here) -> Start:
    rendered = Rendered(compose(folder, ("redis", "tls", "redis-tls")))
    redis = next(one for one in rendered.workloads() if one.name == "redis")
    config = rendered.named("ConfigMap", redis.mounts["/etc/redis"]["configMap"]["name"])
    for name, text in config["data"].items():
        (folder / "redis" / name).write_text(here(text))
    own = {one["name"]: one["value"] for one in redis.container["env"] if "value" in one}
    return [*redis.container["command"], *redis.container["args"]], own


def of_compose(folder: Path, here: Here) -> Start:
    base, layer = (
        yaml.safe_load((ROOT / name).read_text())["services"]["redis"]
        for name in ("docker-compose.yml", "docker-compose.tls.yml")
    )
    (mounted,) = (one for one in layer["volumes"] if one.endswith(f":/{SCRIPT}:ro"))
    (folder / SCRIPT).write_text(here((ROOT / mounted.partition(":")[0]).read_text()))
    words = [word.replace("$$", "$") for word in layer["entrypoint"] + base["command"]]
    own = layer["environment"]
    return words, own | {"REDIS_MORE": here(own["REDIS_MORE"])}


@contextmanager
def started(start: Start, here: Here, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Redis and what runs beside it, which ends with its container."""
    words, own = start
    assert float(own["RELOAD_SECONDS"]) > 0
    secret = dict.fromkeys(("REDIS_PASSWORD", "REDISCLI_AUTH"), "secret")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [here(word) for word in words],
            env=os.environ | own | secret | {"RELOAD_SECONDS": "0.2"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("command", [of_component, of_compose])
def test_a_renewed_certificate_is_shown_without_a_restart(
    command: Callable[[Path, Here], Start], tmp_path: Path
) -> None:
    """Even if the former one has expired meanwhile."""
    authority, port = Authority(tmp_path / "tls"), free_port()
    files = authority.issue("redis", lifetime=-1)
    places: dict[str, Any] = {"/tls": files, f"/{SCRIPT}": tmp_path / SCRIPT, "6379": port}
    for folder in ("/etc/redis", "/tmp", "/data"):
        places[folder] = tmp_path / Path(folder).name
        places[folder].mkdir()
    pattern = rf"(?<![\w.])({'|'.join(sorted(places, key=len, reverse=True))})\b"

    def here(text: str) -> str:
        return re.sub(pattern, lambda found: str(places[found[1]]), text)

    def shows_its_file() -> bool:
        try:
            shown = ssl.get_server_certificate(("127.0.0.1", port))
        except OSError:
            return False
        return shown == (files / "tls.crt").read_text()

    log = tmp_path / "log"
    with started(command(tmp_path, here), here, log) as redis:
        wait_until(shows_its_file, 30, "Redis shows its certificate")
        words = "Redis has not read its certificates again, and keeps those it has: "
        wait_until(lambda: words in log.read_text(), 30, "the log says that it has expired")
        authority.issue("redis")
        wait_until(shows_its_file, 30, "Redis shows the new one")
        assert Path(f"/proc/{redis.pid}/comm").read_text() == "redis-server\n"
        assert list((tmp_path / "data").iterdir()), "Redis was not told where its files are"
        redis.terminate()
        assert redis.wait(30) == 0, log.read_text()
    assert "secret" not in log.read_text()
