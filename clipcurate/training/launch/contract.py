"""What launchers, agents and ranks have agreed on: names, and what an exit status means."""

WORKER = "clipcurate.training.worker"
"""The module of one rank: `python -m clipcurate.training.worker JOB`."""

AGENT = "clipcurate.training.launch.agent"
"""The module that starts a machine's ranks, and starts them again: torchrun."""

HOPELESS = 65
"""Exit status of a rank, and of an agent, whose error would come again."""

UNFINISHED = 75
"""Exit status of one that was asked to stop: its checkpoint is saved, steps are left."""

SAVE_SECONDS = "CLIPCURATE_TRAINING_SAVE_SECONDS"
"""Environment of an agent: how long ranks may take to save a checkpoint after SIGTERM."""

MEETING_PLACE = "CLIPCURATE_TRAINING_MEETING_PLACE"
"""Environment of an agent in a cluster: HOST:PORT of index 0. Without it there is one machine."""

KUBEFLOW_MEETING_PLACE = ("PET_MASTER_ADDR", "PET_MASTER_PORT")
"""The same, by the names that Kubeflow's Trainer gives it: those of torchrun's own settings."""

NAME = "CLIPCURATE_TRAINING_NAME"
"""Environment of an agent in a cluster: the training's name at the meeting place."""

ADDRESS = "POD_IP"
"""Environment of an agent in a cluster: where its ranks can be reached."""

INDEX = "JOB_COMPLETION_INDEX"
"""Environment of an agent in a cluster: its index, as Indexed Jobs give it."""
