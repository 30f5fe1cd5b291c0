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
        except ValueError:
            # Neither the address nor the cause is shown: in both there may be parts of a password.
            raise InvalidInputError(
                "the Redis address (redis_url) cannot be read: it has the form redis://HOST:PORT, "
                "unix:///PATH, or for a cluster redis+cluster://HOST:PORT,HOST:PORT; "
                "percent-encode a user and a password in it, or use redis_user and "
                "redis_password_file"
            ) from None

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
    parts = urlsplit(address.url)
    if "@" in parts.path + parts.query.partition("=")[0] + parts.fragment:
        raise ValueError("a password's first /, ? or # ended the host")
    return address


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _seed(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("no host")
    return parts.hostname, parts.port or _PORT
