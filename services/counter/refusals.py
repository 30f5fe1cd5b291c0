"""What to do when Redis, or the way to it, refuses the counter: from the words of the failure."""

import re

_SETTING = "CLIPCURATE_COUNTER_REDIS_"
_FORBIDDEN = r"no permissions|NOPERM|user executing the script can't"
_REMEDIES = tuple(
    (re.compile(pattern), remedy)
    for pattern, remedy in (
        (
            r"HELLO must be called with|NOAUTH|Authentication required",
            f"Redis wants a password: set {_SETTING}PASSWORD or {_SETTING}PASSWORD_FILE",
        ),
        (
            r"invalid username-password|WRONGPASS|invalid password|without any password configured",
            f"Redis refuses this user and password: set {_SETTING}PASSWORD or "
            f"{_SETTING}PASSWORD_FILE, and {_SETTING}USER unless it is the user default, as Redis "
            "has them",
        ),
        (
            _FORBIDDEN,
            "Redis's ACL does not let the counter's user do this: give it the keys and commands "
            "that docs/operations/security.md lists",
        ),
        (
            r"CERTIFICATE_VERIFY_FAILED.*expired",
            "Redis's certificate has expired: renew it, and have Redis read it again",
        ),
        (
            r"CERTIFICATE_VERIFY_FAILED.*(mismatch|not valid for)",
            f"Redis's certificate is not for this name: let {_SETTING}URL name the host as the "
            "certificate does",
        ),
        (
            r"CERTIFICATE_VERIFY_FAILED",
            "Redis's certificate is not signed by an authority that the counter knows: let "
            f"{_SETTING}TLS_AUTHORITY name the file of the one that signs it",
        ),
        (
            r"EOF occurred in violation|ALERT_CERTIFICATE_REQUIRED|ALERT_UNKNOWN_CA"
            r"|ALERT_(BAD|UNSUPPORTED)_CERTIFICATE|ALERT_CERTIFICATE_(EXPIRED|UNKNOWN)",
            "Redis wants a certificate of an authority that it knows, and of these days: let "
            f"{_SETTING}TLS_CERTIFICATE and {_SETTING}TLS_KEY name it",
        ),
        (
            r"KEY_VALUES_MISMATCH|PEM lib"
            r"|connecting to [^/]\S*:\d+\. (No such file|Permission denied)",
            f"the files that {_SETTING}TLS_* or {_SETTING}URL name are not in order: a certificate "
            "and its key, and an authority, all in PEM and readable",
        ),
        (
            r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|[Tt]imeout connecting|timed out",
            f"is the way to Redis open (network policies), and does Redis speak TLS if "
            f"{_SETTING}URL begins with rediss://?",
        ),
        (
            r"Name or service not known|name resolution|No address associated",
            f"does {_SETTING}URL name the right host, and is the counter in Redis's network?",
        ),
        (
            r"Connection reset|Connection closed by server",
            f"if this goes on and Redis speaks TLS: let {_SETTING}URL begin with rediss://",
        ),
    )
)


def remedy(error: Exception) -> str:
    """Return what to do about a failure of Redis; nothing if it is to be waited for."""
    return next((remedy for pattern, remedy in _REMEDIES if pattern.search(str(error))), "")


def is_refusal(error: Exception) -> bool:
    """Say whether Redis answers and forbids; what cannot be reached is not meant."""
    return bool(re.search(_FORBIDDEN, str(error)))
