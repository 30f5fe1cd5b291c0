"""What to do about a connection that TLS has refused, from what gRPC says of it."""

from clipcurate.rpc.settings import SecuritySettings

_NO_CONNECTION = ("failed to connect to all addresses", "connections to all backends failing")
_SILENT_REFUSALS = ("Socket closed", "Connection reset")
"""All that a client learns when the other side does not like its certificate, or has none."""


def remedy(details: str, security: SecuritySettings | None) -> str:
    """Return what to do, with the names of the caller's settings; nothing if TLS is not the cause.

    Args:
        details: of the gRPC status.
        security: the caller's settings.
    """
    security = security or SecuritySettings.model_construct(tls_authority=None)
    prefix = str(type(security).model_config.get("env_prefix")) + "TLS_"
    if "CERTIFICATE_VERIFY_FAILED" in details and "expired" in details:
        return "the service's certificate has expired: renew it there"
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return (
            f"the service's certificate is not signed by {security.tls_authority}: let "
            f"{prefix}AUTHORITY name the file of the authority that signs those of the services"
        )
    if "Hostname Verification" in details:
        return (
            "the service's certificate is not for this name: call the service by a name that its "
            "certificate holds, or have it issued for this one"
        )
    if "WRONG_VERSION_NUMBER" in details:
        return (
            f"the service does not speak TLS: take {prefix}AUTHORITY away, or give the service a "
            "certificate (CLIPCURATE_TLS_CERTIFICATE, CLIPCURATE_TLS_KEY)"
        )
    if _has(details, _NO_CONNECTION) and _has(details, _SILENT_REFUSALS):
        return _of_silence(security, prefix)
    return ""


def _of_silence(security: SecuritySettings, prefix: str) -> str:
    if security.tls_authority is None:
        return (
            f"does the service speak TLS? Then set {prefix}AUTHORITY, and {prefix}CERTIFICATE and "
            f"{prefix}KEY if it wants to know who calls"
        )
    if security.tls_certificate is None:
        return f"the service wants a certificate: set {prefix}CERTIFICATE and {prefix}KEY"
    return (
        f"the service refuses the certificate {security.tls_certificate}: let {prefix}CERTIFICATE "
        "and KEY name one that has not expired, from the authority that the service trusts; "
        "with GRPC_VERBOSITY=INFO its log says which of the two it is"
    )


def _has(details: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in details for phrase in phrases)
