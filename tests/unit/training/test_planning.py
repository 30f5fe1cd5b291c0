import pytest

from clipcurate.errors import InvalidInputError
from clipcurate.training.config import config_for
from clipcurate.training.flops import DEVICES
from clipcurate.training.planning import Planner, activations_of


@pytest.fixture(scope="module")
def planner() -> Planner:
    return Planner(config_for("b32_400m"), DEVICES["a100-80"], 0.5)


def test_time_is_flops_over_rate(planner: Planner) -> None:
    """By hand: 12.8e9 pairs of 33.8 GFLOP at half of 64 times 312 TFLOP/s."""
    forecast = planner.forecast(64)
    assert forecast.way is not None
    assert forecast.way.repeats == 0
    assert forecast.hours == pytest.approx(12.8e9 * 33.78e9 / (64 * 156e12) / 3600, rel=1e-3)
    assert forecast.device_hours == pytest.approx(64 * forecast.hours)
    assert forecast.loader_bytes == pytest.approx(forecast.pairs_per_second * 25_000)


def test_repeated_forward_passes_cost_a_third_each(planner: Planner) -> None:
    alone, many = planner.forecast(1), planner.forecast(64)
    assert alone.way is not None
    assert alone.way.micro_batch < 32_768
    assert alone.way.repeats == 1
    assert alone.pairs_per_second == pytest.approx(many.pairs_per_second / 64 * 3 / 4)
    assert alone.way.memory.total <= DEVICES["a100-80"].memory


def test_memory_of_the_weights_is_sixteen_bytes_a_parameter(planner: Planner) -> None:
    memory = planner.memory(64, 512, False)
    assert memory.weights + memory.gradients + memory.optimizer == 16 * 151_277_313
    assert planner.memory(64, 256, False).activations * 2 == memory.activations
    assert planner.memory(64, 512, True).activations < memory.activations / 4


def test_papers_set_up_of_vit_l_14_needs_what_it_used() -> None:
    """The paper trained L/14 on 128 V100 of 32 GB, 256 pairs each, with checkpointing."""
    planner = Planner(config_for("l14_400m"), DEVICES["v100-32"], 0.1)
    assert planner.memory(128, 256, False).total > DEVICES["v100-32"].memory
    assert planner.memory(128, 256, True).total < DEVICES["v100-32"].memory


def test_activations_are_hardly_more_than_those_that_a_block_must_keep(planner: Planner) -> None:
    """Per token and layer in bf16: inputs of 4 products, of attention and of the activation."""
    kept = planner.activations
    tokens_widths = 12 * (50 * 768 + 77 * 512)
    least = 2 * tokens_widths * (1 + 3 + 1 + 1 + 4 + 4)
    assert least < kept.whole < 2 * least
    assert kept.checkpointed < kept.whole / 4


def test_weights_that_autocast_copies_are_counted_once(planner: Planner) -> None:
    """All that products read, in bf16: all but the embeddings, which are looked up."""
    model = config_for("b32_400m").model
    copied = 2 * (planner.parameters - 49_408 * 512)
    assert planner.activations.bf16_weights == pytest.approx(copied, rel=0.01)
    assert activations_of(model, 77, 16) == activations_of(model, 77, 3) == planner.activations
    for checkpointing in (False, True):
        one, two = (planner.memory(64, pairs, checkpointing) for pairs in (1, 2))
        assert one.bf16_weights == two.bf16_weights == planner.activations.bf16_weights


def test_no_forward_pass_is_repeated_where_a_whole_share_fits() -> None:
    """512 pairs of 40 MB are 20 GB: with the rest, 27 of the 43 GB of the smaller A100."""
    way = Planner(config_for("b32_400m"), DEVICES["a100-40"], 0.5).forecast(64).way
    assert way is not None
    assert (way.micro_batch, way.repeats) == (512, 0)
    assert way.memory.total == pytest.approx(27e9, rel=0.05)


def test_what_cannot_be_planned_is_refused(planner: Planner) -> None:
    with pytest.raises(InvalidInputError, match="divisor"):
        planner.forecast(3)
    with pytest.raises(InvalidInputError, match="not within"):
        Planner(config_for("tiny"), DEVICES["h100"], 0)
