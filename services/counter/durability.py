"""Whether Redis keeps what it has acknowledged, as far as it says."""

from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

_WANTED = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
_LOSS = "tasks and counts that it loses are found, and done again"


@dataclass(frozen=True)
class Durability:
    """Whether every acknowledged write is proven to be on disk; if not, why and what to do."""

    proven: bool
    remark: str = ""


def durability(nodes: list[Any]) -> Durability:
    """Ask every node how it writes, and whether it evicts; return the first doubt."""
    for node in nodes:
        for doubt in (_of_writing(node), _of_evicting(node)):
            if doubt:
                return Durability(False, f"{doubt}; {_LOSS}")
    return Durability(True)


def _of_writing(node: Any) -> str:
    try:
        config = node.config_get("*append*")
    except ResponseError:  # managed servers forbid CONFIG
        return _of_hidden_writing(node)
    wrong = {name: config.get(name) for name, wish in _WANTED.items() if config.get(name) != wish}
    if not wrong:
        return ""
    found = ", ".join(f"{name} {value}" for name, value in wrong.items())
    wanted = ", ".join(f"{name} {_WANTED[name]}" for name in wrong)
    return f"Redis may lose acknowledged writes: it has {found}; set {wanted}"


def _of_hidden_writing(node: Any) -> str:
    if _info(node, "persistence").get("aof_enabled") == 0:
        return (
            "Redis may lose acknowledged writes: it keeps no append-only file; switch it on, with "
            "a sync at every write, where your provider lets you"
        )
    return (
        "Redis does not show its configuration, so whether it keeps acknowledged writes is not "
        "known; have your provider's setting be a sync of the append-only file at every write"
    )


def _of_evicting(node: Any) -> str:
    policy = str(_info(node, "memory").get("maxmemory_policy", ""))
    if not policy.startswith("allkeys"):
        return ""
    return f"Redis drops keys when memory is short: set maxmemory-policy noeviction, not {policy}"


def _info(node: Any, section: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = node.info(section)
    except ResponseError:
        return {}
    return found
