"""Settings of the matcher service, from the environment (CLIPCURATE_MATCHER_*)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from clipcurate.languages import DEFAULT_BYTES
from clipcurate.rpc.settings import ServiceSettings
from services.matcher.tables import default_tables_folder


class MatcherSettings(ServiceSettings):
    """Which work to take, and which metadata to hold ready for clients."""

    model_config = SettingsConfigDict(env_prefix="CLIPCURATE_MATCHER_")

    counter: str = Field("", description="address of the counter; empty: serve clients only")
    metadata: list[str] = Field(
        [], description="metadata files to hold ready for clients (JSON list)"
    )
    rule: str = Field("metaclip1", description="matching rule of `metadata`")
    engine: str = Field("token-trie", description="matching engine of `metadata`")
    cache_bytes: int = Field(
        DEFAULT_BYTES, ge=0, description="bytes of runs' matchers to keep in memory"
    )
    tables_folder: Path = Field(
        default_factory=default_tables_folder,
        description="local folder for tables that lie in remote storage, or belong to `metadata`",
    )
