import pytest

from clipcurate.errors import InvalidInputError
from clipcurate.training.launch import LocalLauncher, TrainJob
from clipcurate.training.launch.contract import AGENT

JOB = TrainJob("data", "tiny", "out", {"lr": "1e-4"}, "evaluation", "id")


def test_a_job_survives_the_command_line() -> None:
    assert TrainJob.from_json(JOB.to_json()) == JOB
    assert JOB.config.optim.lr == 1e-4


def test_several_processes_have_an_agent() -> None:
    command = LocalLauncher(4, restarts=7).command(JOB)
    assert AGENT in command
    assert command[command.index("--nproc-per-node") + 1] == "4"
    assert command[command.index("--max-restarts") + 1] == "7"
    assert TrainJob.from_json(command[-1]) == JOB
    assert AGENT not in LocalLauncher().command(JOB)


def test_processes_that_cannot_share_a_batch_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="3 processes cannot share 8 lanes"):
        LocalLauncher(3).start(JOB)
