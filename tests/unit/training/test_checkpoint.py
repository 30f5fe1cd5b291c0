from pathlib import Path

import pytest
import torch

from clipcurate.errors import TrainingError
from clipcurate.training import checkpoint
from clipcurate.training.config import config_for
from clipcurate.training.loop import TrainState, initial_state


@pytest.fixture
def state() -> TrainState:
    state = initial_state(config_for("tiny"), "cpu")
    state.step, state.replaced = 7, 2
    return state


def test_restores_all_of_the_state(tmp_path: Path, state: TrainState) -> None:
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    checkpoint.save(str(tmp_path), state, "settings", keep=3)
    other = initial_state(config_for("tiny", {"seed": "5"}), "cpu")
    assert checkpoint.restore(str(tmp_path), other, "settings")
    assert (other.step, other.replaced) == (7, 2)
    saved, loaded = state.optimizer.state_dict(), other.optimizer.state_dict()
    assert saved["param_groups"] == loaded["param_groups"]
    for number, moments in saved["state"].items():
        assert torch.equal(moments["exp_avg_sq"], loaded["state"][number]["exp_avg_sq"])
    weights = other.model.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in state.model.state_dict().items())


def test_keeps_the_last_few(tmp_path: Path, state: TrainState) -> None:
    for step in (9, 10, 11):
        state.step = step
        checkpoint.save(str(tmp_path), state, "settings", keep=2)
    names = [Path(url).name[:15] for url in checkpoint.saved(str(tmp_path))]
    assert names == ["step-0000000010", "step-0000000011"]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_empty_folder_restores_nothing(tmp_path: Path, state: TrainState) -> None:
    assert not checkpoint.restore(str(tmp_path), state, "settings")
    assert not checkpoint.restore(str(tmp_path / "absent"), state, "settings")


def test_other_settings_are_refused(tmp_path: Path, state: TrainState) -> None:
    checkpoint.save(str(tmp_path), state, "these", keep=2)
    with pytest.raises(TrainingError, match="other settings"):
        checkpoint.restore(str(tmp_path), state, "those")


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_named(
    tmp_path: Path, state: TrainState, damage: bytes | None
) -> None:
    checkpoint.save(str(tmp_path), state, "settings", keep=2)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1000] if damage is None else damage)
    with pytest.raises(TrainingError, match="delete it to resume"):
        checkpoint.restore(str(tmp_path), state, "settings")
