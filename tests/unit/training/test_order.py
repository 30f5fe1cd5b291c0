import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.training import order


@given(n=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_permuted_is_a_permutation_for_any_size(n: int, key: int) -> None:
    values = order.permuted(n, key, np.arange(n))
    assert np.array_equal(np.sort(values), np.arange(n))


def test_permuted_reaches_any_position_of_a_huge_set() -> None:
    n = 10**10 + 7
    values = order.permuted(n, 5, np.array([0, 1, n - 1]))
    assert len(set(values.tolist())) == 3
    assert ((values >= 0) & (values < n)).all()


@given(
    n=st.integers(1, 50), batch=st.integers(1, 70), seed=st.integers(0, 9), steps=st.integers(1, 8)
)
def test_steps_concatenate_epochs_and_carry_the_remainder(
    n: int, batch: int, seed: int, steps: int
) -> None:
    drawn = [order.batch_samples(n, batch, seed, step) for step in range(steps)]
    samples = np.concatenate([s for s, _ in drawn])
    epochs = np.concatenate([e for _, e in drawn])
    assert np.array_equal(epochs, np.arange(steps * batch) // n)
    for epoch in range(steps * batch // n):
        assert sorted(samples[epochs == epoch]) == list(range(n))


def test_epochs_and_seeds_order_differently() -> None:
    first, second = (order.batch_samples(500, 500, 0, step)[0] for step in (0, 1))
    other_seed, _ = order.batch_samples(500, 500, 1, 0)
    for a, b in ((first, second), (first, other_seed), (first, np.arange(500))):
        assert (a == b).mean() < 0.03


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


def test_evaluation_sample_is_distinct() -> None:
    assert len(set(order.evaluation_sample(5000, 0, 1000).tolist())) == 1000
    assert sorted(order.evaluation_sample(7, 0, 1000).tolist()) == list(range(7))
