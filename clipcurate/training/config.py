"""What determines a training: a tree of typed settings, the presets, and overrides by name.

The published presets are the paper's recipe (arXiv 2309.16671): 12.8 billion pairs seen in batches
of 32,768, with the original CLIP's optimiser settings.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clipcurate.errors import InvalidInputError
from clipcurate.training.schedule import stages


@dataclass(frozen=True)
class ModelConfig:
    """The two towers.

    `name` is one of open_clip's model configurations, or "tiny". `image_size` is in pixels,
    `context_length` in tokens (start and end included).
    """

    name: str = "ViT-B-32-quickgelu"
    image_size: int = 224
    context_length: int = 77
    quick_gelu: bool = True


@dataclass(frozen=True)
class DataConfig:
    """The order of the data and the crops.

    `crop_scale_min` and `crop_ratio_max` bound RandomResizedCrop: share of the area in
    [crop_scale_min, 1], aspect ratio in [1 / crop_ratio_max, crop_ratio_max]. The dataset is read
    in `lanes` side by side, each of which shuffles `window_blocks` blocks at a time; the number of
    ranks must divide `lanes`, and that the batch.

    `t_schedule` thins the dataset while it is read: t by step, as `schedule.stages` reads it; ""
    leaves it as it is. With `online` every epoch draws its own coins for that, which takes a
    matched dataset; without it, an epoch shows what has critical t <= t.
    """

    batch_size: int = 32_768
    lanes: int = 1_024
    window_blocks: int = 4
    seen_pairs: int = 12_800_000_000
    crop_scale_min: float = 0.9
    crop_ratio_max: float = 4 / 3
    online: bool = False
    t_schedule: str = ""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with a linear warm-up and a cosine to 0. `grad_clip` is a norm; 0 clips nothing."""

    lr: float = 5e-4
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    weight_decay: float = 0.2
    warmup_steps: int = 2_000
    grad_clip: float = 0.0


@dataclass(frozen=True)
class ComputeConfig:
    """How a step is computed; none of it changes a weight by more than rounding.

    `precision` of the towers is "bf16" (autocast), "float32", or "auto": bf16 on a GPU. `compile`
    is "on", "off", or "auto": on a GPU. `micro_batch` bounds the pairs that a device holds
    activations of (0: all of its share); the loss still sees the whole batch. `text_groups` is
    into how many groups a micro-batch's texts are sorted by length, each cut to its own need (0:
    texts stay at full length). `activation_checkpointing` computes each block twice for memory.
    """

    precision: str = "auto"
    compile: str = "auto"
    micro_batch: int = 0
    text_groups: int = 4
    activation_checkpointing: bool = False


@dataclass(frozen=True)
class RuntimeConfig:
    """What surrounds the steps; none of it changes a weight.

    Of the checkpoints of every `checkpoint_every` steps the newest `keep_checkpoints` stay, and for
    good those of every `keep_every` steps (0: none). `cache_bytes` bounds the file in `cache_dir`
    (if empty, the system's temporary directory) that holds blocks of images, `prefetch_batches` the
    batches made ahead in memory; `fetch_threads` are requests at the same time. The model is
    evaluated every `eval_every` steps (0: only at the end), after a checkpoint of its own;
    retrieval is among `retrieval_images` of a dataset.
    """

    checkpoint_every: int = 1_000
    keep_checkpoints: int = 3
    keep_every: int = 0
    log_every: int = 10
    cache_bytes: int = 32 << 30
    cache_dir: str = ""
    fetch_threads: int = 8
    prefetch_batches: int = 4
    decode_threads: int = 8
    retrieval_images: int = 1_000
    eval_every: int = 0


@dataclass(frozen=True)
class TrainConfig:
    """All settings of one training."""

    preset: str
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    @property
    def total_steps(self) -> int:
        """Optimiser steps: the seen pairs in whole batches, rounded up."""
        return -(-self.data.seen_pairs // self.data.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Return the tree as nested dictionaries of JSON values."""
        return dataclasses.asdict(self)

    def determinants(self) -> dict[str, Any]:
        """Return what determines the weights: seed, model, data and optimiser.

        Thinning is among them only where there is some, and as what it says: a schedule may be
        written in several ways.
        """
        tree = self.to_dict()
        data = tree["data"]
        schedule = [[stage.first_step, stage.t] for stage in stages(data.pop("t_schedule"))]
        data |= {"t_schedule": schedule} if schedule else {}
        if not self.data.online:
            del data["online"]
        return {name: tree[name] for name in ("seed", "model", "data", "optim")}


def presets() -> dict[str, TrainConfig]:
    """Return the presets by name: "tiny" for one CPU, and the published recipes."""
    tiny = TrainConfig(
        preset="tiny",
        model=ModelConfig("tiny", image_size=32, context_length=24),
        data=DataConfig(batch_size=128, lanes=8, seen_pairs=60_000),
        optim=OptimConfig(lr=1e-3, warmup_steps=50),
        runtime=RuntimeConfig(checkpoint_every=200, decode_threads=1),
    )
    published = [
        _published("b32_400m", "ViT-B-32-quickgelu"),
        _published("b16_400m", "ViT-B-16-quickgelu"),
        _published("l14_400m", "ViT-L-14-quickgelu", lr=4e-4),
        _published("b32_fullcc", "ViT-B-32-quickgelu"),
        _published("b16_fullcc", "ViT-B-16-quickgelu"),
        _published("l14_fullcc", "ViT-L-14-quickgelu", lr=4e-4),
        _published("h14_fullcc", "ViT-H-14-quickgelu", lr=4e-4),
        _published("g14_fullcc", "ViT-bigG-14-quickgelu", lr=4e-4),
        _worldwide(),
    ]
    return {config.preset: config for config in [tiny, *published]}


def config_for(preset: str, overrides: Mapping[str, str] | None = None) -> TrainConfig:
    """Return a preset with settings replaced by name, e.g. `{"lr": "1e-3", "seed": "3"}`.

    A name is a leaf of the tree ("lr") or its path ("optim.lr").

    Raises:
        InvalidInputError: unknown preset or setting, or a value that its setting cannot have.
    """
    known = presets()
    if preset not in known:
        raise InvalidInputError(f"unknown preset {preset!r}; choose one of: {', '.join(known)}")
    config = known[preset]
    for name, text in (overrides or {}).items():
        config = _override(config, name, text)
    _check(config)
    return config


def _published(preset: str, model: str, lr: float = 5e-4) -> TrainConfig:
    """Return Table 12's recipe; the datasets of 400M and of "full CC" were trained on alike."""
    return TrainConfig(preset=preset, model=ModelConfig(model), optim=OptimConfig(lr=lr))


def _worldwide() -> TrainConfig:
    """Return Meta CLIP 2's recipe for ViT-H/14 (arXiv 2507.22062): 2.3 times the pairs seen.

    The batch is that of the published configuration (75,264 = 196 · 48 · 8; the paper rounds to
    75,366).
    """
    return TrainConfig(
        preset="h14_worldwide",
        model=ModelConfig("ViT-H-14-worldwide-quickgelu"),
        data=DataConfig(batch_size=75_264, lanes=512, seen_pairs=29_000_000_000),
        optim=OptimConfig(lr=4e-4, beta2=0.95, weight_decay=0.1),
    )


def _override(config: TrainConfig, name: str, text: str) -> TrainConfig:
    leaves = dict(_leaves(config))
    matching = [path for path in leaves if name in (path, path.rpartition(".")[2])]
    if len(matching) != 1:
        raise InvalidInputError(f"unknown setting {name!r}; choose one of: {', '.join(leaves)}")
    path = matching[0]
    value = _parse(path, text, type(leaves[path]))
    section, _, leaf = path.rpartition(".")
    if not section:
        return dataclasses.replace(config, **{leaf: value})
    replaced = dataclasses.replace(getattr(config, section), **{leaf: value})
    return dataclasses.replace(config, **{section: replaced})


def _leaves(config: TrainConfig) -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of every setting but the preset's name."""
    for name, value in config.to_dict().items():
        if isinstance(value, dict):
            yield from ((f"{name}.{leaf}", inner) for leaf, inner in value.items())
        elif name != "preset":
            yield name, value


def _parse(path: str, text: str, kind: type) -> Any:
    parsers: dict[type, Callable[[str], Any]] = {int: _integer, float: float, bool: _truth}
    try:
        return parsers.get(kind, str)(text.strip())
    except (KeyError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"setting {path}: {text!r} is no {kind.__name__}") from error


def _integer(text: str) -> int:
    """Accept "60000", "60_000" and "6e4"."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


# The bounds of every number in the tree; what is not listed must be positive.
BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**63 - 1),
    "model.context_length": (3, 77),
    "data.batch_size": (2, 2**24),
    "data.crop_scale_min": (1e-3, 1),
    "data.crop_ratio_max": (1, 100),
    "optim.beta1": (0, 1 - 1e-9),
    "optim.beta2": (0, 1 - 1e-9),
    "optim.weight_decay": (0, 1e3),
    "optim.warmup_steps": (0, 2**53),
    "optim.grad_clip": (0, 1e9),
    "compute.micro_batch": (0, 2**24),
    "compute.text_groups": (0, 64),
    "runtime.keep_every": (0, 2**53),
    "runtime.eval_every": (0, 2**53),
}

CHOICES: dict[str, tuple[str, ...]] = {
    "compute.precision": ("auto", "bf16", "float32"),
    "compute.compile": ("auto", "on", "off"),
}


def _check(config: TrainConfig) -> None:
    for path, value in _leaves(config):
        if value not in CHOICES.get(path, (value,)):
            raise InvalidInputError(f"setting {path}: {value!r} is none of {CHOICES[path]}")
        if isinstance(value, str | bool):
            continue
        low, high = BOUNDS.get(path, (1e-12, 2**53))
        if not low <= value <= high:
            raise InvalidInputError(f"setting {path}: {value} is not within [{low:g}, {high:g}]")
    if not stages(config.data.t_schedule) and config.data.online:
        raise InvalidInputError(
            "setting data.online: each epoch is thinned to a t of its own coins; say which t, by "
            "t_schedule (--t-schedule 20000)"
        )
    if config.data.batch_size % config.data.lanes:
        raise InvalidInputError(
            f"setting data.batch_size: {config.data.batch_size} is no multiple of the "
            f"{config.data.lanes} lanes; change it, or set lanes"
        )
