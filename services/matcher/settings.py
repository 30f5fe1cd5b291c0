"""Settings of the matcher service, from the environment (CLIPCURATE_MATCHER_*)."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from clipcurate.rpc.settings import ServiceSettings


class MatcherSettings(ServiceSettings):
    """Which work to take, and which metadata to hold ready for clients."""

    model_config = SettingsConfigDict(env_prefix="CLIPCURATE_MATCHER_")

    counter: str = Field("", description="address of the counter; empty: serve clients only")
    metadata: list[str] = Field(
        [], description="metadata files to hold ready for clients (JSON list)"
    )
    rule: str = Field("metaclip1", description="matching rule of `metadata`")
    engine: str = Field("token-trie", description="matching engine of `metadata`")
    cached_matchers: int = Field(4, ge=1, description="matchers of runs to keep in memory")
