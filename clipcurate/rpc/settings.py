"""Settings that every service shares; each service's own settings inherit them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MAX_MESSAGE_BYTES = 16 << 20
"""Bulk messages stay below 2 MiB; this is the limit above which a message is refused."""


KEEPALIVE_SECONDS = (10, 5)
"""Silence on a connection in use after which a client asks whether anyone is there, and how long
it waits for an answer. Without it a peer that vanished without a word holds a call until its
deadline, and so every later call on the same connection."""


Identity = Literal["counter", "matcher", "sampler", "trainer", "client"]
"""Who a caller may be; `clipcurate.rpc.authorization` says what each may do."""

_COMMON = "CLIPCURATE_TLS_"


def _common(name: str) -> Callable[[], Path | None]:
    """A service that is not told otherwise shows its callers what it shows those it calls."""

    def path() -> Path | None:
        found = os.environ.get(_COMMON + name)
        return Path(found) if found else None

    return path


class SecuritySettings(BaseSettings):
    """TLS of one side of a connection, from CLIPCURATE_TLS_*. Without any file: plaintext.

    A service may have files of its own, CLIPCURATE_<SERVICE>_TLS_*. Files may change at any time.
    """

    model_config = SettingsConfigDict(env_prefix="CLIPCURATE_", env_ignore_empty=True)

    tls_certificate: Path | None = Field(
        default_factory=_common("CERTIFICATE"), description="PEM file of this side's certificate"
    )
    tls_key: Path | None = Field(
        default_factory=_common("KEY"), description="PEM file of this side's private key"
    )
    tls_authority: Path | None = Field(
        default_factory=_common("AUTHORITY"),
        description="PEM file of the authority that signs the other side's certificate",
    )


class ServiceSettings(SecuritySettings):
    """What the server bootstrap needs."""

    listen: str = Field("127.0.0.1:0", description="address and port for gRPC; port 0 picks one")
    metrics_listen: str = Field(
        "", description="address and port for Prometheus metrics; empty for none"
    )
    threads: int = Field(16, ge=1, description="handler threads; a stream occupies one")
    reflection: bool = Field(
        False, description="serve gRPC reflection: to whoever explores, it lists every call"
    )
    identities: dict[str, Identity] = Field(
        {},
        description="names in certificates, and the service each stands for, instead of the "
        "services' own names (JSON)",
    )
    drain_seconds: float = Field(
        10.0, ge=0, description="how long calls in flight may finish after SIGTERM"
    )
    endpoint_seconds: float = Field(
        0.0, ge=0, description="pause between NOT_SERVING and refusing calls (load balancers)"
    )
    max_connection_age_seconds: float = Field(
        0.0,
        ge=0,
        description="close connections of this age so that clients find new pods; 0: never",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "json"
    ready_file: Path | None = Field(
        None, description="file that gets the bound address once the server listens"
    )
