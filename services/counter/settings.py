"""Settings of the counter service, from the environment (CLIPCURATE_COUNTER_*)."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from clipcurate.rpc.settings import ServiceSettings


class CounterSettings(ServiceSettings):
    """Where Redis is, and how leases and failures are treated."""

    # What is wrong with a setting is said without it: it may hold a password.
    model_config = SettingsConfigDict(env_prefix="CLIPCURATE_COUNTER_", hide_input_in_errors=True)

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", description="redis://, rediss://, unix://, redis[s]+cluster://"
    )
    redis_user: str = Field("", description="user of Redis's ACL; empty: the user `default`")
    redis_password: SecretStr = Field(SecretStr(""), description="this user's password")
    redis_password_file: Path | None = Field(
        None, description="file that holds it instead; read for each connection"
    )
    redis_tls_certificate: Path | None = Field(
        None, description="PEM file of the counter's certificate, for a Redis that asks for one"
    )
    redis_tls_key: Path | None = Field(None, description="PEM file of its private key")
    redis_tls_authority: Path | None = Field(
        None,
        description="PEM file of the authority that signs Redis's certificate; none: the system's",
    )
    require_durable: bool = Field(
        False, description="stay not ready unless Redis proves to be durable"
    )
    lease_seconds: float = Field(30.0, gt=0, description="lifetime of a lease unless renewed")
    backoff_seconds: float = Field(
        1.0, ge=0, description="pause before a failed task's next attempt; doubles each time"
    )
    max_failures: int = Field(5, ge=1, description="failed attempts after which a task is blocked")
    second_opinion_seconds: float = Field(
        10.0, ge=0, description="how long an unreadable input waits for another worker"
    )
