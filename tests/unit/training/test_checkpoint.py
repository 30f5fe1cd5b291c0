from contextlib import closing
from pathlib import Path

import pytest
import torch

from clipcurate.errors import StorageError, TrainingError
from clipcurate.training import checkpoint
from clipcurate.training.checkpoint import Kept, Writer
from clipcurate.training.config import config_for
from clipcurate.training.loop import TrainState, initial_state

SETTINGS = '{"config":{"optim":{"lr":0.1},"seed":0},"dataset":"abc"}'


@pytest.fixture
def state() -> TrainState:
    state = initial_state(config_for("tiny"), "cpu")
    state.step, state.replaced = 7, 2
    return state


def write(folder: Path, state: TrainState, last: int = 3, every: int = 0) -> None:
    description = {"settings": SETTINGS, "config": config_for("tiny").to_dict()}
    with closing(Writer(str(folder), description, Kept(last, every))) as writer:
        writer.save(state)
        writer.wait()


def test_restores_all_of_the_state(tmp_path: Path, state: TrainState) -> None:
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    write(tmp_path, state)
    other = initial_state(config_for("tiny", {"seed": "5"}), "cpu")
    checkpoint.restore(checkpoint.newest(str(tmp_path)), other, SETTINGS)
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
        write(tmp_path, state, last=2)
    names = [Path(url).name[:15] for url in checkpoint.saved(str(tmp_path))]
    assert names == ["step-0000000010", "step-0000000011"]
    assert len(list(tmp_path.iterdir())) == 2


def test_keeps_every_so_many_for_good(tmp_path: Path, state: TrainState) -> None:
    for step in range(1, 8):
        state.step = step
        write(tmp_path, state, last=2, every=3)
    assert [checkpoint.step_of(url) for url in checkpoint.saved(str(tmp_path))] == [3, 6, 7]


def test_what_was_saved_between_the_schedule_goes_with_the_next_and_drives_none_out() -> None:
    kept = Kept(last=2, every=8, schedule=4)
    urls = [f"step-{step:010d}-hash.pt" for step in (4, 8, 10, 12, 16, 18)]
    assert [checkpoint.step_of(url) for url in kept.surplus(urls)] == [4, 10]
    assert [checkpoint.step_of(url) for url in kept.surplus(urls[:3])] == []


def test_an_empty_folder_has_no_newest(tmp_path: Path) -> None:
    assert checkpoint.newest(str(tmp_path)) == checkpoint.newest(str(tmp_path / "absent")) == ""


def test_holds_the_whole_configuration(tmp_path: Path, state: TrainState) -> None:
    write(tmp_path, state)
    payload = torch.load(checkpoint.newest(str(tmp_path)), weights_only=True)
    assert payload["config"] == config_for("tiny").to_dict()


def test_a_snapshot_is_not_changed_by_later_steps(state: TrainState) -> None:
    snapshot = checkpoint.snapshot(state)
    before = snapshot["model"]["visual.proj"].clone()
    with torch.no_grad():
        state.model.visual.proj.add_(1)
    assert torch.equal(snapshot["model"]["visual.proj"], before)


def test_a_failed_write_stops_the_next(tmp_path: Path, state: TrainState) -> None:
    (tmp_path / "file").write_text("in the way")
    with closing(Writer(str(tmp_path / "file" / "below"), {}, Kept())) as writer:
        writer.save(state)
        with pytest.raises(StorageError, match="below"):
            writer.save(state)


def test_other_settings_are_refused_and_named(tmp_path: Path, state: TrainState) -> None:
    write(tmp_path, state)
    others = '{"config":{"data":{"online":true},"optim":{"lr":0.2},"seed":0},"dataset":"abd"}'
    named = (
        r"config\.data\.online: none there, True here; config\.optim\.lr: 0\.1 there, 0\.2 here; "
        r"dataset: abc there, abd here\)"
    )
    with pytest.raises(TrainingError, match=rf"other settings or another dataset \({named}"):
        checkpoint.restore(checkpoint.newest(str(tmp_path)), state, others)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_named(
    tmp_path: Path, state: TrainState, damage: bytes | None
) -> None:
    write(tmp_path, state)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1000] if damage is None else damage)
    with pytest.raises(TrainingError, match="delete it to resume"):
        checkpoint.restore(str(path), state, SETTINGS)
