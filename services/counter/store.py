"""The connection to Redis: keys, scripts, and what its failures mean."""

import logging
import re
from functools import cached_property
from importlib import resources
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.commands.core import Script
from redis.retry import Retry

from clipcurate.errors import ClipcurateError, StorageError, UnavailableError

log = logging.getLogger(__name__)

_SCRIPTS = resources.files("services.counter") / "scripts"
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 15.0
"""No command takes a tenth of a second; what takes so long is a connection that is gone."""
_CANNOT_WRITE = re.compile(r"\b(MISCONF|OOM)\b")
RUNS = "clipcurate:runs"
"""Sorted set of all run ids by time of creation."""
ACTIVE_RUNS = "clipcurate:active"
"""Sorted set of the ids of runs that may have tasks to hand out, oldest first."""


def run_prefix(run_id: str) -> str:
    """Return the prefix of a run's keys; the hash tag puts all of them in one slot."""
    return f"clipcurate:{{{run_id}}}:"


def translate(error: Exception) -> ClipcurateError | None:
    """Say what a Redis error means to a client, or None where it is a defect."""
    if not isinstance(error, redis.RedisError):
        return None
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | redis.ReadOnlyError):
        return UnavailableError(f"Redis cannot be reached ({error}); the call may be repeated")
    # In scripts and pipelines the code stands in the middle of the message.
    if isinstance(error, redis.OutOfMemoryError) or _CANNOT_WRITE.search(str(error)):
        return StorageError(f"Redis cannot write: {error}; give it disk or memory")
    return None


class Store:
    """A Redis client and the service's scripts, which survive SCRIPT FLUSH and restarts."""

    def __init__(self, url: str) -> None:
        # Any: redis-py types every reply as bytes or str, whatever decode_responses says.
        self.redis: Any = redis.Redis.from_url(
            url,
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
            health_check_interval=15,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
        )

    @cached_property
    def scripts(self) -> dict[str, Script]:
        """All scripts by name; the ledger's begin with the common part."""
        common = (_SCRIPTS / "common.lua").read_text()
        names = ["open_stage", "claim", "renew", "complete", "fail", "release", "resolve"]
        names.append("close_window")
        found = {name: common + (_SCRIPTS / f"{name}.lua").read_text() for name in names}
        found["replace"] = (_SCRIPTS / "replace.lua").read_text()
        return {name: self.redis.register_script(text) for name, text in found.items()}

    def call(self, script: str, run_id: str, *args: Any) -> Any:
        """Run a ledger script on a run."""
        return self.scripts[script](keys=[run_prefix(run_id)], args=args)

    def is_durable(self) -> bool | None:
        """Say whether every write is on disk before its reply; None where Redis will not tell."""
        try:
            config = self.redis.config_get("append*")
        except redis.ResponseError:
            return None
        return bool(config.get("appendonly") == "yes" and config.get("appendfsync") == "always")
