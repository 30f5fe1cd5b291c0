"""Addresses of Redis, as operators write them."""

import traceback

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


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "rediss+cluster"])
@pytest.mark.parametrize(
    "password",
    [
        "s3cr/et",
        "s3cr?et",
        "s3cr#et",
        "s3cr[et",
        "s3cr://et",
        "s3cr/e@t",
        "12/et",
        "12?et",
        "12#et",
    ],
)
def test_no_part_of_a_password_that_is_not_encoded_is_shown(scheme: str, password: str) -> None:
    remedy = "percent-encode .* or use redis_user and redis_password_file"
    with pytest.raises(InvalidInputError, match=remedy) as caught:
        Address.parse(f"{scheme}://user:{password}@host:6379")
    assert not [part for part in ("s3cr", "12", "et'", "et@") if part in str(caught.value)]
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cr" not in shown
    assert "ValueError: " not in shown


def test_an_encoded_password_is_taken() -> None:
    found = Address.parse("redis://user:s3cr%2F%3F%23%40et@host")
    assert found.client().get_connection_kwargs()["password"] == "s3cr/?#@et"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://user:secret@host?ssl_keyfile=/secret", "rediss://host"),
        ("unix://user@/run/redis.sock?password=secret", "unix:///run/redis.sock"),
        ("redis://host?password=secret@host", "redis://host"),
        ("redis+cluster://:secret@a:7000,b", "redis://a:7000,b:6379"),
    ],
)
def test_people_see_an_address_without_its_password(url: str, place: str) -> None:
    found = Address.parse(url)
    assert found.place == place
    assert "secret" not in repr(found)
    assert found.has_login is ("@" in url)
