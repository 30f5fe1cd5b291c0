"""Settings of the trainer service, from the environment (CLIPCURATE_TRAINER_*)."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from clipcurate.rpc.settings import ServiceSettings


class TrainerSettings(ServiceSettings):
    """Where work comes from, and how much of the machine it may take."""

    model_config = SettingsConfigDict(env_prefix="CLIPCURATE_TRAINER_")

    counter: str = Field("", description="address of the counter; empty: serve clients only")
    torch_threads: int = Field(
        0,
        ge=0,
        description="CPU threads of torch; 0: one per core. Fixes the bits of a CPU training",
    )
