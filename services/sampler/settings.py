"""Settings of the sampler service, from the environment (CLIPCURATE_SAMPLER_*)."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from clipcurate.rpc.settings import ServiceSettings


class SamplerSettings(ServiceSettings):
    """Whose work to take."""

    model_config = SettingsConfigDict(env_prefix="CLIPCURATE_SAMPLER_")

    counter: str = Field(..., description="address of the counter")
