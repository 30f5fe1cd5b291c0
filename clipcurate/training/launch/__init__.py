"""Where a training runs: one face, `Launcher`, whoever starts its processes. Needs no torch.

`LocalLauncher` starts processes of this machine; `clipcurate.training.launch.kubernetes` a Job of a
cluster, and needs the `kubernetes` client.
"""

from clipcurate.training.launch.job import Launcher, Running, TrainJob
from clipcurate.training.launch.local import LocalLauncher, LocalTraining

__all__ = ["Launcher", "LocalLauncher", "LocalTraining", "Running", "TrainJob"]
