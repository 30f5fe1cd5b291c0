"""What the choice of data does to a model: the paper's Figure 1 and Table 6 in miniature.

    python benchmarks/data_quality.py --work FOLDER --images FOLDER [--report FILE.json] [--quick]

Two tables: rendered concepts, and photos with a long tail (--images holds CIFAR-10's archives).
Each pool is curated as raw, matched and balanced at the t of a tail share of 6%, and the same small
CLIP is trained on each, with the same settings, schedule and number of seen pairs; the fourth arm,
online, balances the matched dataset anew in each epoch. The learning rate is chosen on raw, by a
validation set that plays no other part. Five seeds, each of coins, weights and order, are the same
for all arms, so differences are paired. Pool and test set are the same throughout: the intervals
say nothing of other pools.

That balancing helps is a hypothesis; it is reported, and no code prefers an arm. FULL below was
committed before the first run. A second start goes on where the first one ended, and refuses a
folder of another configuration. --report writes the figures as JSON, and a chart per table beside
it; --quick takes the same path, too short to learn anything.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from harness import long_tailed, report
from harness.arms import Arms, Plan, figure_of, train_all

from clipcurate.report.figure1 import draw_figure1
from demo import evalset, metadata, pool
from demo.config import DemoConfig


@dataclass(frozen=True)
class Photos:
    """CIFAR-10 with a long tail."""

    largest: int
    """Photos of the most frequent class in the pool."""
    imbalance: float
    """How many times as many as of the rarest."""
    apart: int
    """Photos of each class that are kept apart for validation."""


@dataclass(frozen=True)
class Config:
    """All that determines the outcome; `plans` are by table."""

    concepts: DemoConfig
    photos: Photos
    plans: dict[str, Plan]


PLAN = Plan(
    tail_share=0.06,
    seen_pairs=65_536,
    settings={"batch_size": "128", "warmup_steps": "50", "retrieval_images": "64"},
    learning_rates=(5e-4, 1e-3, 2e-3),
    seeds=(1, 2, 3, 4, 5),
    most_repeats=32,  # the paper's: 12.8 billion seen of 400 million
)

FULL = Config(
    concepts=DemoConfig(
        num_concepts=217,
        images=100_000,
        shard_images=12_500,
        zipf_exponent=1.3,
        eval_per_class=20,
        seed=20,
        tail_share=PLAN.tail_share,
        seen_pairs=PLAN.seen_pairs,
        learning_rate=0,  # chosen on the way
    ),
    photos=Photos(largest=1_900, imbalance=100, apart=100),
    plans={"concepts": PLAN, "cifar10": replace(PLAN, seen_pairs=24_576)},
)

SHORT = replace(PLAN, seen_pairs=256, learning_rates=(5e-4, 1e-3), seeds=(1, 2))

QUICK = Config(
    concepts=replace(FULL.concepts, images=3_000, shard_images=1_500, eval_per_class=2),
    photos=Photos(largest=300, imbalance=10, apart=10),
    plans={"concepts": SHORT, "cifar10": SHORT},
)


def write_concepts(config: DemoConfig, folder: Path) -> None:
    """Write the pool of rendered concepts, its metadata, a validation and a test set."""
    pool.write_pool(config, folder / "pool")
    metadata.write_metadata(config.names, folder / "metadata.json")
    evalset.write_eval(config, folder / "test")
    evalset.write_eval(replace(config, seed=config.seed + 1), folder / "validation")


def write_photos(config: Photos, images: Path, folder: Path) -> None:
    """Write the same for CIFAR-10; its test set is that of CIFAR-10."""
    names = long_tailed.classes(images)
    sizes = long_tailed.class_sizes(len(names), config.largest, config.imbalance)
    train = images / long_tailed.TRAIN
    (folder / "pool").mkdir()
    found = list(long_tailed.photos(train, names, sizes))
    long_tailed.write_pool(found, names, folder / "pool" / "00000.tar")
    metadata.write_metadata(names, folder / "metadata.json")
    apart = long_tailed.photos(train, names, [config.apart] * len(names), config.largest)
    long_tailed.write_eval(apart, names, folder / "validation")
    tested = long_tailed.photos(images / long_tailed.TEST, names, [500] * len(names))
    long_tailed.write_eval(tested, names, folder / "test")


def take_config(config: Config, work: Path) -> None:
    """Write the configuration into a new folder; refuse a folder of another one."""
    path, text = work / "config.json", json.dumps(asdict(config), indent=2)
    work.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_text() != text:
        sys.exit(f"{path}: of another configuration; give another --work")
    path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    config, work = QUICK if options.quick else FULL, options.work.absolute()
    take_config(config, work)
    inputs: dict[str, Callable[[Path], None]] = {
        "concepts": partial(write_concepts, config.concepts),
        "cifar10": partial(write_photos, config.photos, options.images),
    }
    tables = {name: Arms(work / name, config.plans[name]) for name in inputs}
    for name, arms in tables.items():
        arms.prepare(inputs[name])
        train_all([*arms.candidates().values()])
    for seed in config.plans["concepts"].seeds:
        train_all([job for arms in tables.values() for job in arms.jobs(seed)])
    results = {name: arms.results() for name, arms in tables.items()}
    report({"config": asdict(config), "tables": results}, options.report)
    if options.report:
        for name, found in results.items():
            stem = options.report.with_suffix("")
            draw_figure1(
                figure_of(found), *(Path(f"{stem}-{name}.{end}") for end in ("svg", "png"))
            )


if __name__ == "__main__":
    main()
