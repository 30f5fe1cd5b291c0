"""Where Redis is: one server, or a cluster."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.cluster import ClusterNode, RedisCluster

from clipcurate.errors import InvalidInputError

CLUSTER = "+cluster"
_PORT = 6379


@dataclass(frozen=True)
class Address:
    """A URL as redis-py takes it; of a cluster its other seeds, as (host, port)."""

    url: str = field(repr=False)
    cluster: bool = False
    seeds: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read `redis://`, `rediss://`, `unix://` or `redis[s]+cluster://HOST[:PORT],…`.

        Raises:
            InvalidInputError: it is none of these.
        """
        scheme, _, rest = url.partition("://")
        try:
            return cls._of_cluster(scheme, rest) if CLUSTER in scheme else _checked(cls(url))
        except ValueError as error:
            place = _place(url)
            raise InvalidInputError(
                f"Redis address {place!r}: {error}; it has the form redis://HOST:PORT, "
                "unix:///PATH, or for a cluster redis+cluster://HOST:PORT,HOST:PORT"
            ) from error

    @classmethod
    def _of_cluster(cls, scheme: str, rest: str) -> "Address":
        authority, slash, path = rest.partition("/")
        user, at, hosts = authority.rpartition("@")
        first, *others = hosts.split(",")
        url = f"{scheme.removesuffix(CLUSTER)}://{user}{at}{first}{slash}{path}"
        return _checked(cls(url, True, tuple(_seed(host) for host in others)))

    @property
    def place(self) -> str:
        """The address for people: without user, password and options."""
        seeds = "".join(f",{host}:{port}" for host, port in self.seeds)
        return _place(self.url) + seeds

    @property
    def tls(self) -> bool:
        """Whether it asks for TLS."""
        return self.url.startswith("rediss://")

    @property
    def has_login(self) -> bool:
        """Whether it holds a user or a password."""
        options: dict[str, Any] = redis.connection.parse_url(self.url)  # type: ignore[no-untyped-call]
        return "username" in options or "password" in options

    def client(self, **options: Any) -> Any:
        """Return a client. Of a cluster, this asks the first seed that answers for the slots."""
        if not self.cluster:
            return redis.Redis.from_url(self.url, **options)
        seeds = [ClusterNode(*seed) for seed in self.seeds]  # type: ignore[no-untyped-call]
        return RedisCluster.from_url(self.url, startup_nodes=seeds, **options)


def _checked(address: Address) -> Address:
    redis.connection.parse_url(address.url)  # type: ignore[no-untyped-call]
    return address


def _place(url: str) -> str:
    scheme, colon, rest = url.rpartition("://")
    return f"{scheme}{colon}{rest.rpartition('@')[2].partition('?')[0]}"


def _seed(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"no host in {text!r}")
    return parts.hostname, parts.port or _PORT
