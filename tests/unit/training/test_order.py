import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.training import order


@given(n=st.integers(0, 3000), key=st.integers(0, 2**64 - 1))
def test_shuffled_is_a_permutation_for_any_size(n: int, key: int) -> None:
    assert np.array_equal(np.sort(order.shuffled(n, key)), np.arange(n))


def test_orders_of_different_keys_are_unrelated() -> None:
    a, b = order.shuffled(5_000, 1), order.shuffled(5_000, 2)
    for one, other in ((a, b), (a, np.arange(5_000))):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / 5_000**0.5
        assert (one == other).sum() < 10


def test_text_choice_is_uniform_and_keyed() -> None:
    counts = np.bincount([order.text_choice(3, 0, epoch, 7) for epoch in range(3000)])
    assert (abs(counts - 1000) < 120).all()
    assert order.text_choice(3, 0, 1, 7) == order.text_choice(3, 0, 1, 7)


def test_crop_uniforms_are_uniform_and_keyed() -> None:
    drawn = order.crop_uniforms(1, 2, 3, 20_000)
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert abs(drawn.mean() - 0.5) < 0.01
    assert abs(drawn.var() - 1 / 12) < 0.005
    assert not np.array_equal(drawn, order.crop_uniforms(1, 2, 4, 20_000))


def test_evaluation_sample_is_distinct_and_from_few_blocks() -> None:
    counts = np.full(1_000, 100)
    chosen = order.evaluation_sample(counts, 0, 1_000)
    assert len(set(chosen.tolist())) == 1_000
    assert len(set((chosen // 100).tolist())) == 16
    assert len(order.evaluation_sample(counts, 0, 20_000)) == 20_000
    assert order.evaluation_sample(np.array([3, 4]), 0, 1_000).tolist() == list(range(7))
