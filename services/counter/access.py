"""How the counter shows Redis who it is, and how it knows Redis."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.credentials import CredentialProvider

from clipcurate.errors import InvalidInputError
from clipcurate.rpc.certificates import PemFiles
from services.counter.address import Address
from services.counter.settings import CounterSettings


@dataclass(frozen=True)
class Access:
    """Credentials beside an address. Every new connection gets what the files hold then.

    Attributes:
        user: of Redis's ACL; empty: the user `default`.
        password: of this user; or
        password_file: the file that holds it.
        certificate: for a Redis that asks for one, with its `key`.
        key: the certificate's private key.
        authority: who signs Redis's certificate; None: one that the system trusts.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    @classmethod
    def of(cls, settings: CounterSettings) -> "Access":
        """Return what the settings name.

        Raises:
            InvalidInputError: they name two passwords.
        """
        if settings.redis_password and settings.redis_password_file:
            raise InvalidInputError("set redis_password or redis_password_file, not both")
        return cls(
            settings.redis_user,
            settings.redis_password.get_secret_value(),
            settings.redis_password_file,
            settings.redis_tls_certificate,
            settings.redis_tls_key,
            settings.redis_tls_authority,
        )

    def options(self, address: Address) -> dict[str, Any]:
        """Return what redis-py needs for connections to `address`.

        Raises:
            InvalidInputError: the address says something else, or a file is not in order.
        """
        return self._login(address) | self._tls(address)

    def _login(self, address: Address) -> dict[str, Any]:
        if not (self.user or self.password or self.password_file):
            return {}
        if address.has_login:
            raise InvalidInputError(
                f"Redis address {address.place!r}: it holds a user or a password, and so do "
                "redis_user, redis_password or redis_password_file: leave one of both out"
            )
        login = _Login(self.user, self.password, self.password_file)
        try:
            login.get_credentials()
        except redis.AuthenticationError as error:
            raise InvalidInputError(str(error)) from error
        return {"credential_provider": login}

    def _tls(self, address: Address) -> dict[str, Any]:
        files = {"certfile": self.certificate, "keyfile": self.key, "ca_certs": self.authority}
        if not address.tls and any(files.values()):
            raise InvalidInputError(
                f"Redis address {address.place!r}: redis_tls_* are set, so it must begin with "
                "rediss://; with redis:// nothing would be encrypted"
            )
        if not address.tls:
            return {}
        PemFiles(self.certificate, self.key, self.authority)
        options = {f"ssl_{name}": str(path) for name, path in files.items() if path}
        return {"ssl_check_hostname": True, **options}  # whatever redis-py does without


class _Login(CredentialProvider):
    """User and password, read anew for each connection."""

    def __init__(self, user: str, password: str, file: Path | None) -> None:
        self._user, self._password, self._file = user, password, file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return (user, password), or the password alone. Raises redis.AuthenticationError."""
        try:
            password = self._file.read_text().rstrip("\r\n") if self._file else self._password
        except (OSError, UnicodeError) as error:
            raise redis.AuthenticationError(
                f"{self._file}: cannot be read as a password (redis_password_file): {error}"
            ) from error
        return (self._user, password) if self._user else (password,)
