"""Addresses of Redis, as operators write them."""

import pytest

from clipcurate.errors import InvalidInputError
from services.counter.address import Address


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:6379/0", "rediss://user:secret@host", "unix:///run/redis.sock"]
)
def test_one_server_is_addressed_as_redis_py_does(url: str) -> None:
    assert Address.parse(url) == Address(url)


def test_a_cluster_has_seeds() -> None:
    found = Address.parse("rediss+cluster://user:secret@a:7000,b,[::1]:7002")
    assert found == Address("rediss://user:secret@a:7000", True, (("b", 6379), ("::1", 7002)))


def test_a_cluster_may_have_one_name() -> None:
    found = Address.parse("redis+cluster://redis.example/?protocol=2")
    assert found == Address("redis://redis.example/?protocol=2", True)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://localhost",
        "http+cluster://a",
        "redis+cluster://a,:7",
        "redis+cluster://a,b:x",
        "redis://user:secret@host:port",
    ],
)
def test_what_is_no_address_is_said_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInputError, match="redis://HOST:PORT") as caught:
        Address.parse(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://user:secret@host?ssl_keyfile=/secret", "rediss://host"),
        ("unix://user@/run/redis.sock?password=secret", "unix:///run/redis.sock"),
        ("redis+cluster://:secret@a:7000,b", "redis://a:7000,b:6379"),
    ],
)
def test_people_see_an_address_without_its_password(url: str, place: str) -> None:
    found = Address.parse(url)
    assert found.place == place
    assert "secret" not in repr(found)
    assert found.has_login is ("@" in url)
