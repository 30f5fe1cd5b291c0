"""Certificates in PEM files that are read again when they change."""

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from clipcurate.errors import InvalidInputError

log = logging.getLogger(__name__)

_TRIES = 5
"""How often files that change while they are read are read."""

_Stamps = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Pems:
    """What the files hold: one side's certificate with its key, and the other side's authority."""

    certificate: bytes | None
    key: bytes | None
    authority: bytes | None

    def __repr__(self) -> str:
        return "Pems(…)"


class PemFiles:
    """The files of one side of its connections.

    Args:
        certificate: this side's certificate, and what links it to its authority.
        key: the certificate's private key.
        authority: who signs the other side's certificates.

    Raises:
        InvalidInputError: a file cannot be read, or certificate and key do not belong together.
    """

    def __init__(self, certificate: Path | None, key: Path | None, authority: Path | None) -> None:
        if (certificate is None) != (key is None):
            raise InvalidInputError(
                "TLS needs both a certificate and a key: set tls_certificate, tls_key"
            )
        self._certificate, self._key, self._authority = certificate, key, authority
        self._lock = threading.Lock()
        self._complaint = ""
        self._stamps, self._pems = self._read()

    def current(self) -> Pems:
        """Return what the files hold now; what they held before while they are not in order.

        The first case of each disorder is logged: an operator, or Kubernetes, replaces the files
        one by one, and may do it wrong.
        """
        with self._lock:
            try:
                if self._look() != self._stamps:
                    self._stamps, self._pems = self._read()
                    log.info("certificates read again", extra={"files": self._names()})
                self._complaint = ""
            except InvalidInputError as error:
                if str(error) != self._complaint:
                    log.warning("%s; what was read before stays in use", error)
                self._complaint = str(error)
            return self._pems

    def _read(self) -> tuple[_Stamps, Pems]:
        for _ in range(_TRIES):
            stamps = self._look()
            self._check()
            pems = Pems(*map(_bytes, self._paths()))
            if stamps == self._look():
                return stamps, pems
        raise InvalidInputError(f"{self._names()}: they change while they are read")

    def _check(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._certificate and self._key:
            try:  # without a password, OpenSSL asks the terminal for that of an encrypted key
                context.load_cert_chain(self._certificate, self._key, password="")
            except (ssl.SSLError, OSError) as error:
                raise InvalidInputError(
                    f"{self._certificate}, {self._key}: not a certificate in PEM and its private "
                    f"key without a password ({_reason(error)}); replace both files"
                ) from error
        if self._authority:
            try:
                context.load_verify_locations(self._authority)
            except (ssl.SSLError, OSError) as error:
                raise InvalidInputError(
                    f"{self._authority}: not an authority's certificates in PEM "
                    f"({_reason(error)}); replace the file"
                ) from error

    def _look(self) -> _Stamps:
        found = []
        for path in filter(None, self._paths()):
            try:
                status = path.stat()
            except OSError as error:
                raise _unreadable(path, error) from error
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)

    def _paths(self) -> tuple[Path | None, Path | None, Path | None]:
        return self._certificate, self._key, self._authority

    def _names(self) -> str:
        return ", ".join(str(path) for path in self._paths() if path)


def _bytes(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InvalidInputError:
    return InvalidInputError(f"{path}: cannot be read ({_reason(error)})")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
