import subprocess
import sys

import pytest

from clipcurate.errors import InvalidInputError
from clipcurate.training.config import config_for, presets


def test_published_presets_are_the_papers_recipe() -> None:
    for name, lr in {
        "b32_400m": 5e-4,
        "b16_400m": 5e-4,
        "l14_400m": 4e-4,
        "h14_fullcc": 4e-4,
    }.items():
        config = presets()[name]
        assert (config.data.batch_size, config.data.seen_pairs) == (32_768, 12_800_000_000)
        assert config.total_steps == 390_625
        assert (config.optim.lr, config.optim.warmup_steps) == (lr, 2_000)
        assert (config.optim.beta1, config.optim.beta2, config.optim.eps) == (0.9, 0.98, 1e-6)
        assert (config.optim.weight_decay, config.optim.grad_clip) == (0.2, 0)
        assert config.model.quick_gelu
        assert (config.model.image_size, config.model.context_length) == (224, 77)


def test_overrides_replace_leaves_by_name_or_path() -> None:
    config = config_for(
        "tiny", {"lr": "2e-3", "data.seen_pairs": "6e4", "batch_size": "1_000", "seed": "3"}
    )
    assert config.optim.lr == 2e-3
    assert (config.data.seen_pairs, config.data.batch_size, config.seed) == (60_000, 1_000, 3)
    assert config.total_steps == 60
    assert config.model == presets()["tiny"].model


def test_overrides_parse_truth() -> None:
    assert not config_for("tiny", {"quick_gelu": "False"}).model.quick_gelu


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"learning_rate": "1"}, "unknown setting 'learning_rate'.*optim.lr"),
        ({"preset": "x"}, "unknown setting 'preset'"),
        ({"lr": "fast"}, "setting optim.lr: 'fast' is no float"),
        ({"lr": "nan"}, "setting optim.lr"),
        ({"lr": "0"}, "setting optim.lr"),
        ({"seen_pairs": "1.5"}, "setting data.seen_pairs: '1.5' is no int"),
        ({"batch_size": "1"}, "setting data.batch_size"),
        ({"seed": "-1"}, "setting seed"),
        ({"quick_gelu": "maybe"}, "setting model.quick_gelu: 'maybe' is no bool"),
    ],
)
def test_bad_overrides_are_named(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        config_for("tiny", overrides)


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(InvalidInputError, match="tiny, b32_400m"):
        config_for("huge")


def test_runtime_settings_determine_nothing() -> None:
    base, other = config_for("tiny"), config_for("tiny", {"checkpoint_every": "7"})
    assert base.determinants() == other.determinants()
    assert base.determinants() != config_for("tiny", {"seed": "1"}).determinants()


def test_thinning_determines_the_weights_by_what_it_says() -> None:
    base = config_for("tiny").determinants()
    assert not {"online", "t_schedule"} & set(base["data"])  # as before there was any
    online = config_for("tiny", {"online": "1", "t_schedule": "20000"}).determinants()
    assert online["data"]["online"]
    for schedule in ("0:20000", "2e4", " 0:2e4"):
        same = config_for("tiny", {"online": "1", "t_schedule": schedule})
        assert same.determinants() == online
    assert config_for("tiny", {"t_schedule": "20000"}).determinants() not in (base, online)


def test_config_needs_no_torch() -> None:
    program = "import sys, clipcurate.training.identity; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_online_balancing_needs_a_t() -> None:
    with pytest.raises(InvalidInputError, match="say which t"):
        config_for("tiny", {"online": "true"})
    with pytest.raises(InvalidInputError, match="no STEP:T"):
        config_for("tiny", {"t_schedule": "many"})
    assert config_for("tiny", {"online": "1", "t_schedule": "20000"}).data.online
