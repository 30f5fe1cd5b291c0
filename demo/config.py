"""The demo's configuration: fixed here before the first training run, the same for all three."""

from dataclasses import dataclass

from demo.concepts import CONCEPTS, Concept


@dataclass(frozen=True)
class DemoConfig:
    """Everything that determines what the demo makes and how it trains."""

    num_concepts: int
    """How many of `CONCEPTS` there are, the first ones."""
    images: int
    """Pairs in the raw pool."""
    shard_images: int
    """Pairs per tar of the pool."""
    zipf_exponent: float
    """The concept of rank r is drawn with probability proportional to 1 / r**exponent."""
    eval_per_class: int
    """Held-out pictures per concept."""
    seed: int
    """Seeds the pool, the coins and the training."""
    tail_share: float
    """Share of all matches that entries below the threshold t hold; the paper's 400M set: 6%."""
    seen_pairs: int
    """Pairs that each of the three trainings sees, repeats included."""
    learning_rate: float
    """Chosen on the raw emission alone; see README.md."""

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """The visual classes."""
        return CONCEPTS[: self.num_concepts]

    @property
    def names(self) -> list[str]:
        """What people would call them."""
        return [concept.name for concept in self.concepts]


FULL = DemoConfig(
    num_concepts=149,
    images=16_000,
    shard_images=2_000,
    zipf_exponent=1.1,
    eval_per_class=20,
    seed=0,
    tail_share=0.06,
    seen_pairs=75_000,
    learning_rate=7e-4,
)
"""What `make demo` runs."""

QUICK = DemoConfig(
    num_concepts=149,
    images=3_000,
    shard_images=500,
    zipf_exponent=1.1,
    eval_per_class=4,
    seed=0,
    tail_share=0.06,
    seen_pairs=1_280,
    learning_rate=7e-4,
)
"""What `--quick` runs: the same path, too short to learn anything."""
