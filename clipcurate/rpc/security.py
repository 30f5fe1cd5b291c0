"""Credentials of both sides from PEM files. No file: plaintext."""

import grpc

from clipcurate.errors import InvalidInputError
from clipcurate.rpc.settings import SecuritySettings


def server_credentials(settings: SecuritySettings) -> grpc.ServerCredentials | None:
    """Return TLS credentials (mutual where an authority is given), or None for plaintext."""
    if settings.tls_certificate is None and settings.tls_key is None:
        return None
    pair = _pair(settings)
    authority = settings.tls_authority.read_bytes() if settings.tls_authority else None
    return grpc.ssl_server_credentials(
        [pair], root_certificates=authority, require_client_auth=authority is not None
    )


def channel_credentials(settings: SecuritySettings) -> grpc.ChannelCredentials | None:
    """Return TLS credentials where an authority is given, or None for plaintext."""
    if settings.tls_authority is None:
        return None
    key, chain = _pair(settings) if settings.tls_certificate else (None, None)
    return grpc.ssl_channel_credentials(settings.tls_authority.read_bytes(), key, chain)


def _pair(settings: SecuritySettings) -> tuple[bytes, bytes]:
    if settings.tls_certificate is None or settings.tls_key is None:
        raise InvalidInputError(
            "TLS needs both a certificate and a key: set tls_certificate, tls_key"
        )
    return settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes()
