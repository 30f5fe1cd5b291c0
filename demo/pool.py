"""The raw pool: pictures of Zipf-distributed concepts with the web's texts, as webdataset tars."""

import hashlib
import json
import math
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from demo import captions
from demo.captions import TextKind
from demo.concepts import CONCEPTS
from demo.config import DemoConfig
from demo.render import IMAGE_SIZE, Look, draw_look, encode, render
from demo.tars import write_tar


class Sample(NamedTuple):
    """One pair of the pool, before anything is drawn."""

    key: str
    """Nine digits, unique in the pool."""
    concept: int
    """Position in `CONCEPTS` of what the picture shows."""
    look: Look
    kind: TextKind
    text: str


def concept_ranks(config: DemoConfig) -> list[int]:
    """Positions in `CONCEPTS`, most frequent first: shuffled, so that no family is all head."""
    order = list(range(config.num_concepts))
    random.Random(f"ranks/{config.seed}").shuffle(order)
    return order


def concept_weights(config: DemoConfig) -> list[float]:
    """Probability of each concept, in the order of the concepts; they add up to one."""
    shares = [1.0 / rank**config.zipf_exponent for rank in range(1, config.num_concepts + 1)]
    total = math.fsum(shares)
    weights = [0.0] * config.num_concepts
    for share, concept in zip(shares, concept_ranks(config), strict=True):
        weights[concept] = share / total
    return weights


def plan_samples(config: DemoConfig, start: int = 0, stop: int | None = None) -> Iterator[Sample]:
    """The pool's samples `start` to `stop`; each depends on the seed and its own number alone."""
    weights = concept_weights(config)
    names = config.names
    for number in range(start, config.images if stop is None else stop):
        rng = random.Random(f"pool/{config.seed}/{number}")
        (concept,) = rng.choices(range(config.num_concepts), weights=weights)
        look = draw_look(rng)
        kind, text = draw_text(names[concept], look, names, weights, rng)
        yield Sample(f"{number:09d}", concept, look, kind, text)


def write_pool(config: DemoConfig, folder: Path) -> int:
    """Writes the pool's tars into an empty folder and returns how many there are."""
    folder.mkdir(parents=True)
    shards = range(-(-config.images // config.shard_images))
    workers = min(len(shards), os.cpu_count() or 1)
    # "spawn" starts clean children: a fork of a process with threads may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        count = len(shards)
        list(pool.map(_write_shard, [config] * count, shards, [folder] * count))
    return len(shards)


def _write_shard(config: DemoConfig, shard: int, folder: Path) -> None:
    """Writes one tar of the pool."""
    start = shard * config.shard_images
    stop = min(start + config.shard_images, config.images)
    members = (
        member for sample in plan_samples(config, start, stop) for member in _members(sample)
    )
    write_tar(folder / f"{shard:05d}.tar", members)


def _members(sample: Sample) -> Iterator[tuple[str, bytes]]:
    """The files of one pair, as img2dataset would have written them."""
    facts = {
        "uid": hashlib.blake2b(sample.key.encode(), digest_size=16).hexdigest(),
        "url": f"https://demo.invalid/{sample.key}.jpg",
        "caption": sample.text,
        "width": IMAGE_SIZE,
        "height": IMAGE_SIZE,
    }
    yield f"{sample.key}.jpg", encode(render(CONCEPTS[sample.concept].glyph, sample.look))
    yield f"{sample.key}.txt", sample.text.encode()
    yield f"{sample.key}.json", json.dumps(facts).encode()


def draw_text(
    name: str, look: Look | None, names: Sequence[str], weights: Sequence[float], rng: random.Random
) -> tuple[TextKind, str]:
    """A text of a random kind for a picture of `name`; other names are drawn by weight.

    Without a look it names no colours.
    """
    (kind,) = rng.choices(list(captions.KIND_SHARES), weights=list(captions.KIND_SHARES.values()))
    if kind is TextKind.UNMATCHED:
        return kind, captions.file_name(rng)
    if kind is TextKind.CAPTION:
        return kind, captions.caption(name, look, rng)
    if rng.random() < captions.BOILERPLATE_SHARE:
        return kind, captions.boilerplate(rng)
    (other,) = rng.choices(names, weights=weights)
    return kind, captions.caption(other, draw_look(rng) if look else None, rng)
