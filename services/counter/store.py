"""The connection to Redis: keys, scripts, and what its failures mean."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import resources
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    NoScriptError,
    RedisClusterException,
    TryAgainError,
)
from redis.retry import Retry

from clipcurate.errors import ClipcurateError, StorageError, UnavailableError
from services.counter.access import Access
from services.counter.address import Address
from services.counter.refusals import is_refusal, remedy
from services.counter.schema import MARK, VERSION, NewerSchemaError, newer_schema

_SCRIPTS = resources.files("services.counter") / "scripts"
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
"""No command takes a tenth of a second; what takes so long is a connection that is gone."""
_CANNOT_WRITE = re.compile(r"\b(MISCONF|OOM)\b")
_ELSEWHERE = re.compile(r"\b(READONLY|MOVED|ASK|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|BUSY)\b")
"""What ends by itself: a replica, a slot on its way, a node or a cluster that is down."""
_AWAY = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    AskError,
    TryAgainError,
    ClusterDownError,
    RedisClusterException,
)
FAILURES = (redis.RedisError, RedisClusterException)
"""What a call of Redis may raise."""
_RIGHTS = "redis.call('time'); return redis.call('del', KEYS[1])"
"""What wants all rights of a script, and changes nothing where there is no such key."""
RUNS = "clipcurate:runs"
"""Sorted set of all run ids by time of creation."""
ACTIVE_RUNS = "clipcurate:active"
"""Sorted set of the ids of runs that may have tasks to hand out, oldest first."""


def run_prefix(run_id: str) -> str:
    """Return the prefix of a run's keys; the hash tag puts all of them in one slot."""
    return f"clipcurate:{{{run_id}}}:"


def literal(text: str) -> str:
    """Return the pattern that matches just this text in a search for keys."""
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)


def translate(error: Exception) -> ClipcurateError | None:
    """Say what a Redis error means to a client, or None where it is a defect."""
    if not isinstance(error, FAILURES):
        return None
    # In scripts and pipelines the code stands in the middle of the message.
    if is_refusal(error):
        return UnavailableError(f"Redis refuses the counter ({error}); {remedy(error)}")
    if newer := newer_schema(error):
        return newer
    if _passes(error):
        what_to_do = remedy(error) or "the call may be repeated"
        return UnavailableError(f"Redis cannot be reached ({error}); {what_to_do}")
    if isinstance(error, redis.OutOfMemoryError) or _CANNOT_WRITE.search(str(error)):
        return StorageError(f"Redis cannot write: {error}; give it disk or memory")
    return None


def _advice(error: Exception) -> str:
    return f"{error}; {remedy(error)}".removesuffix("; ")


def _passes(error: Exception) -> bool:
    return isinstance(error, _AWAY) or bool(_ELSEWHERE.search(str(error)))


def _lua(name: str) -> str:
    return (_SCRIPTS / f"{name}.lua").read_text()


class Script:
    """A script that survives SCRIPT FLUSH, restarts and failover, whatever their moment."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, node: Any, keys: list[str], args: tuple[Any, ...]) -> Any:
        """Run it on a node, which is told its text again where it has forgotten it."""
        try:
            return node.evalsha(self._sha, len(keys), *keys, *args)
        except NoScriptError:
            return node.eval(self.text, len(keys), *keys, *args)


class Store:
    """A Redis or a Redis Cluster, and the service's scripts.

    Args:
        url: its address.
        access: credentials beside those in the address.
        schema: the version of the layout that runs are made in, and the newest that is known.

    Raises:
        InvalidInputError: it is no address, or its credentials are not in order.
    """

    def __init__(self, url: str, access: Access | None = None, schema: int = VERSION) -> None:
        self._address = Address.parse(url)
        self._access = access.options(self._address) if access else {}
        self._schema = schema

    @property
    def place(self) -> str:
        """Where Redis is, for people."""
        return self._address.place

    # Any: redis-py types every reply as bytes or str, whatever decode_responses says.
    @cached_property
    def redis(self) -> Any:
        """The client for commands on one key. Of a cluster it is made once the cluster answers."""
        return self._address.client(
            **self._access,
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
            health_check_interval=15,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
        )

    @contextmanager
    def node(self, run_id: str) -> Iterator[Any]:
        """Yield the client of the one node that holds a run, for scripts and pipelines.

        They are never redirected while a slot moves: half of a run's keys would be missing there.
        Such a call fails, and is repeated, until the slot has arrived. After a failure the next
        call looks for the node again.
        """
        with self._watched(run_prefix(run_id)) as node:
            yield node

    def nodes(self) -> list[Any]:
        """Return a client of every node."""
        if not self._address.cluster:
            return [self.redis]
        return [self.redis.get_redis_connection(node) for node in self.redis.get_nodes()]

    def ailment(self) -> str:
        """Return why Redis cannot be worked with now, and what to do; empty if it can."""
        try:
            self.require_known(self.redis.get(MARK))
        except NewerSchemaError as error:
            return error.remark
        except FAILURES as error:
            self._look_again()
            return _advice(error)
        return ""

    def forbids(self) -> str:
        """Return what Redis's ACL denies the counter, and what to do; empty if it lets it write."""
        try:
            self.redis.eval(_RIGHTS, 1, run_prefix("") + "nothing")
        except FAILURES as error:
            return _advice(error) if is_refusal(error) else ""
        return ""

    def require_known(self, schema: bytes | int | None) -> None:
        """Raise NewerSchemaError if this is a version (None: the first) that is not known."""
        if int(schema or 1) > self._schema:
            raise NewerSchemaError(int(schema or 1), self._schema)

    def announce(self) -> None:
        """Mark the store with the version in which a run is about to be made.

        Raises:
            NewerSchemaError: its mark is of a newer version; it is left as it is.
        """
        with self._watched(MARK) as node:
            self.require_known(self.scripts["mark"].call(node, [MARK], (self._schema,)))

    @cached_property
    def scripts(self) -> dict[str, Script]:
        """All scripts by name; those of runs begin with a guard, the ledger's with more."""
        names = ["open_stage", "claim", "renew", "complete", "fail", "release", "resolve"]
        names += ["close_window", "create", "turn", "archive", "clear"]
        common = self._guard("KEYS[1] .. 'run'") + _lua("common")
        found = {name: common + _lua(name) for name in names}
        found["replace"] = self._guard("KEYS[3]") + _lua("replace")
        found["mark"] = _lua("mark")
        return {name: Script(text) for name, text in found.items()}

    def _guard(self, run_hash: str) -> str:
        return f"local run_hash, known_schema = {run_hash}, {self._schema}\n{_lua('guard')}"

    def call(self, script: str, run_id: str, *args: Any) -> Any:
        """Run a ledger script on a run."""
        with self.node(run_id) as node:
            return self.scripts[script].call(node, [run_prefix(run_id)], args)

    def close(self) -> None:
        """Close all connections."""
        self.redis.close()

    @contextmanager
    def _watched(self, key: str) -> Iterator[Any]:
        try:
            yield self._node(key)
        except FAILURES as error:
            if _passes(error):
                self._look_again()
            raise

    def _node(self, key: str) -> Any:
        if not self._address.cluster:
            return self.redis
        return self.redis.get_redis_connection(self.redis.get_node_from_key(key))

    def _look_again(self) -> None:
        """Find out anew who holds what: the map of a cluster, or who is primary behind a name."""
        if "redis" not in self.__dict__:
            return
        if not self._address.cluster:
            self.redis.connection_pool.disconnect(inuse_connections=False)
            return
        try:
            self.redis.nodes_manager.initialize()
        except FAILURES:  # no node that was known answers: begin with the address
            if found := self.__dict__.pop("redis", None):
                found.close()
