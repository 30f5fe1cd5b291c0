"""The launcher that the settings name."""

from clipcurate.training.launch import Launcher, LocalLauncher
from services.trainer.settings import TrainerSettings


def launcher_of(settings: TrainerSettings) -> Launcher:
    """Return the launcher. Raises InvalidInputError: there is no cluster to talk to."""
    if settings.launcher == "local":
        threads = {"OMP_NUM_THREADS": str(settings.torch_threads)} if settings.torch_threads else {}
        return LocalLauncher(settings.processes, settings.restarts, threads)
    from clipcurate.training.launch.cluster import connect
    from clipcurate.training.launch.kubernetes import KubernetesLauncher

    return KubernetesLauncher(connect(settings.namespace), settings.pods())
