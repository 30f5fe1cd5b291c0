import subprocess
import sys

import pytest

from clipcurate.errors import InvalidInputError, TrainingError
from clipcurate.training.launch import LocalLauncher, LocalTraining, TrainJob
from clipcurate.training.launch.contract import AGENT, HOPELESS
from clipcurate.training.mixing import Source

JOB = TrainJob("data", "tiny", "out", {"lr": "1e-4"}, "evaluation", "id")


def test_a_job_survives_the_command_line() -> None:
    assert TrainJob.from_json(JOB.to_json()) == JOB
    assert JOB.config.optim.lr == 1e-4
    several = TrainJob((Source("a", 3), Source("b", 1)), "tiny", "out")
    assert TrainJob.from_json(several.to_json()) == several


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


@pytest.mark.parametrize(
    ("status", "advice"), [(1, "goes on from the newest checkpoint"), (HOPELESS, "change what")]
)
def test_the_advice_depends_on_whether_the_error_would_come_again(status: int, advice: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({status})"])
    with pytest.raises(TrainingError, match=f"status {status}; .*{advice}"):
        LocalTraining(process).wait()
