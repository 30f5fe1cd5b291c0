"""Settings that every service shares; each service's own settings inherit them."""

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


class SecuritySettings(BaseSettings):
    """TLS of one side of a connection, from CLIPCURATE_TLS_*. Without any file: plaintext."""

    model_config = SettingsConfigDict(env_prefix="CLIPCURATE_")

    tls_certificate: Path | None = Field(None, description="PEM file of this side's certificate")
    tls_key: Path | None = Field(None, description="PEM file of this side's private key")
    tls_authority: Path | None = Field(
        None, description="PEM file of the authority that signs the other side's certificate"
    )


class ServiceSettings(SecuritySettings):
    """What the server bootstrap needs."""

    listen: str = Field("127.0.0.1:0", description="address and port for gRPC; port 0 picks one")
    metrics_listen: str = Field(
        "", description="address and port for Prometheus metrics; empty for none"
    )
    threads: int = Field(16, ge=1, description="handler threads; a Watch stream occupies one")
    reflection: bool = Field(True, description="serve gRPC reflection")
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
