"""The id of a training: a hash of what determines its result. Needs no torch."""

from collections.abc import Sequence
from typing import Any

from clipcurate.datasets.manifest import Manifest
from clipcurate.hashing import hash_json
from clipcurate.training.config import TrainConfig

Described = Manifest | Sequence[tuple[Manifest, int]]
"""The manifest of a dataset; or of each of several, with its weight as `mixing.sources_of` has it.
"""


def settings_of(datasets: Described, config: TrainConfig) -> dict[str, Any]:
    """Return what determines the weights: the datasets' bytes and shares, and the settings."""
    return {"dataset": _bytes_of(datasets), "config": config.determinants()}


def training_id(datasets: Described, config: TrainConfig, eval_url: str = "") -> str:
    """Return the id of a training on `datasets`, evaluated on `eval_url`."""
    return hash_json({**settings_of(datasets, config), "eval_url": eval_url})


def _bytes_of(datasets: Described) -> str | list[list[str | int]]:
    """Return the hash of a dataset; of several, hash and weight of each in their order."""
    if isinstance(datasets, Manifest):
        return datasets.dataset_hash
    if len(datasets) == 1:
        return datasets[0][0].dataset_hash
    return [[manifest.dataset_hash, weight] for manifest, weight in datasets]
