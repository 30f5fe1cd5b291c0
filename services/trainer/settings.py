"""Settings of the trainer service, from the environment (CLIPCURATE_TRAINER_*)."""

from typing import Any, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from clipcurate.rpc.settings import ServiceSettings
from clipcurate.training.launch.objects import Pods


class TrainerSettings(ServiceSettings):
    """Where work comes from, and where trainings run. Dictionaries and lists are JSON."""

    model_config = SettingsConfigDict(env_prefix="CLIPCURATE_TRAINER_")

    counter: str = Field("", description="address of the counter; empty: serve clients only")
    launcher: Literal["local", "kubernetes"] = Field(
        "local", description="as processes beside this one, or as a Job of the cluster each"
    )
    tasks: int = Field(
        16, ge=1, description="kubernetes: trainings of runs side by side; clients may start more"
    )
    restarts: int = Field(
        3, ge=0, description="how often a machine's ranks start again before it gives up"
    )

    processes: int = Field(1, ge=1, description="local: processes that share each batch")
    torch_threads: int = Field(
        0,
        ge=0,
        description="local: CPU threads of torch in each process; 0: one per core if there is one "
        "process, else one. Fixes the bits of a CPU training",
    )

    namespace: str = Field("default", description="kubernetes: where Jobs are made")
    image: str = Field("", description="kubernetes: image of the training pods; required")
    nodes: int = Field(1, ge=1, description="kubernetes: pods of a training")
    gpus: int = Field(1, ge=0, description="kubernetes: GPUs, and processes, of a pod; 0: CPUs")
    cpu: str = Field("8", description="kubernetes: CPUs of a pod")
    memory: str = Field("64Gi", description="kubernetes: memory of a pod, shared memory included")
    shm_size: str = Field("8Gi", description="kubernetes: room of /dev/shm, in memory")
    scratch_size: str = Field(
        "",
        description="kubernetes: room of /tmp, also requested of the node; empty: for what the "
        "ranks' caches may take, and 16 GiB",
    )
    node_selector: dict[str, str] = Field({}, description="kubernetes: labels that nodes must have")
    tolerations: list[dict[str, Any]] = Field(
        [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        description="kubernetes: taints that pods bear",
    )
    claims: dict[str, str] = Field({}, description="kubernetes: claims of volumes, and their paths")
    secrets: dict[str, str] = Field({}, description="kubernetes: secrets, and their paths")
    environment_secrets: list[str] = Field(
        [], description="kubernetes: secrets whose keys become environment variables"
    )
    environment: dict[str, str] = Field({}, description="kubernetes: environment variables")
    service_account: str = Field(
        "", description="kubernetes: account of the pods, for clouds that give access by it"
    )
    queue: str = Field("", description="kubernetes: queue of Kueue; empty: none")
    pod_failures: int = Field(
        6, ge=0, description="kubernetes: how often each pod may fail, losses of nodes not counted"
    )
    save_seconds: int = Field(
        600, ge=1, description="kubernetes: time for the last checkpoint when a pod must go"
    )
    keep_seconds: int = Field(
        86_400, ge=0, description="kubernetes: how long an ended Job and its logs stay"
    )

    def pods(self) -> Pods:
        """Return what the pods of a training are like."""
        names = Pods.__dataclass_fields__
        return Pods(**{name: getattr(self, name) for name in names})
