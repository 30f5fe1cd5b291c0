"""Credentials of Redis, as operators set them."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from clipcurate.errors import InvalidInputError
from services.counter.access import Access
from services.counter.address import Address
from services.counter.settings import CounterSettings
from tests.certificates import Authority

PLAIN, TLS = Address.parse("redis://host"), Address.parse("rediss://host")


def test_nothing_set_leaves_the_address_to_itself() -> None:
    assert Access.of(CounterSettings()).options(PLAIN) == {}


def test_a_password_is_given_once() -> None:
    both = CounterSettings(redis_password=SecretStr("x"), redis_password_file=Path("/y"))
    with pytest.raises(InvalidInputError, match="not both"):
        Access.of(both)
    with pytest.raises(InvalidInputError, match="leave one of both out") as caught:
        Access(password="other").options(Address.parse("redis://user:secret@host"))
    assert "secret" not in str(caught.value)


def test_a_password_is_read_anew_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    login = Access(user="u", password_file=file).options(PLAIN)["credential_provider"]
    assert login.get_credentials() == ("u", "first")
    file.write_text("second")
    assert login.get_credentials() == ("u", "second")


def test_a_password_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="redis_password_file"):
        Access(password_file=tmp_path / "nothing").options(PLAIN)


def test_certificates_want_an_address_that_encrypts(tmp_path: Path) -> None:
    folder = Authority(tmp_path).issue("counter")
    access = Access(authority=folder / "ca.crt")
    with pytest.raises(InvalidInputError, match="must begin with rediss://"):
        access.options(PLAIN)
    assert access.options(TLS) == {
        "ssl_check_hostname": True,
        "ssl_ca_certs": str(folder / "ca.crt"),
    }


@pytest.mark.parametrize(("options", "checked"), [("", True), ("?ssl_check_hostname=no", False)])
def test_redis_is_known_by_its_name_unless_the_address_says_no(options: str, checked: bool) -> None:
    address = Address.parse(f"rediss://host{options}")
    client = address.client(**Access().options(address))
    assert client.get_connection_kwargs()["ssl_check_hostname"] is checked


def test_that_is_asked_of_every_release_of_redis_py_and_of_clusters() -> None:
    cluster = Address.parse("rediss+cluster://a,b")
    assert Access().options(TLS) == Access().options(cluster) == {"ssl_check_hostname": True}


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    folder = Authority(tmp_path).issue("counter")
    with pytest.raises(InvalidInputError, match="tls"):
        Access(certificate=folder / "tls.crt").options(TLS)


def test_no_password_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPCURATE_COUNTER_REDIS_PASSWORD", "secret")
    settings = CounterSettings()
    assert "secret" not in repr(settings) + repr(Access.of(settings))
    monkeypatch.setenv("CLIPCURATE_COUNTER_REDIS_URL", "redis://:secret@host")
    monkeypatch.setenv("CLIPCURATE_COUNTER_LEASE_SECONDS", "secret")
    with pytest.raises(ValidationError, match="lease_seconds") as caught:
        CounterSettings()
    assert "secret" not in str(caught.value)
