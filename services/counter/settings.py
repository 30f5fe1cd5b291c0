"""Settings of the counter service, from the environment (CLIPCURATE_COUNTER_*)."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from clipcurate.rpc.settings import ServiceSettings


class CounterSettings(ServiceSettings):
    """Where Redis is, and how leases and failures are treated."""

    model_config = SettingsConfigDict(env_prefix="CLIPCURATE_COUNTER_")

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", description="redis://, rediss://, unix://, redis[s]+cluster://"
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
