"""Credentials of both sides from PEM files, which may change meanwhile. No file: plaintext."""

import ipaddress
import logging

import grpc

from clipcurate.errors import InvalidInputError
from clipcurate.rpc.certificates import PemFiles, Pems
from clipcurate.rpc.settings import SecuritySettings, ServiceSettings

log = logging.getLogger(__name__)


def server_credentials(settings: SecuritySettings) -> grpc.ServerCredentials | None:
    """Return TLS credentials (mutual where an authority is given), or None for plaintext.

    Each new connection gets what the files hold then.

    Raises:
        InvalidInputError: the files are not in order, or an authority comes without a certificate.
    """
    if settings.tls_certificate is None and settings.tls_key is None:
        if settings.tls_authority is None:
            return None
        raise InvalidInputError(
            f"tls_authority is {settings.tls_authority}, but without a certificate of its own the "
            "service would listen in plaintext: set tls_certificate, tls_key too"
        )
    files = _files(settings)
    shown = files.current()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        pems = files.current()
        if pems is shown:
            return None
        shown = pems
        return _configuration(pems)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown),
        renewed,  # type: ignore[arg-type]  # the stubs forget that None means: as before
        require_client_authentication=settings.tls_authority is not None,
    )


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    assert pems.key is not None and pems.certificate is not None
    return grpc.ssl_server_certificate_configuration(
        [(pems.key, pems.certificate)], root_certificates=pems.authority
    )


def channel_files(settings: SecuritySettings) -> PemFiles | None:
    """Return a client's files where an authority is given, or None for plaintext.

    Raises:
        InvalidInputError: the files are not in order.
    """
    return None if settings.tls_authority is None else _files(settings)


def channel_credentials(pems: Pems) -> grpc.ChannelCredentials:
    """Return a client's TLS credentials; mutual where it has a certificate."""
    return grpc.ssl_channel_credentials(pems.authority, pems.key, pems.certificate)


def warn_of_strangers(settings: ServiceSettings, address: str) -> None:
    """Log it if a service listens for other machines and cannot tell who calls."""
    host = address.rpartition(":")[0].strip("[]")
    if settings.tls_authority is not None or _is_here(host):
        return
    log.warning(
        "%s: whoever reaches this address may call everything; for other machines set "
        "tls_certificate, tls_key and tls_authority, which make callers show a certificate",
        address,
    )


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in {"localhost", "unix"}


def _files(settings: SecuritySettings) -> PemFiles:
    return PemFiles(settings.tls_certificate, settings.tls_key, settings.tls_authority)
