"""The loader against open_clip's own webdataset loader: the same JPEGs, the same crops, one run.

    python benchmarks/loader.py --photos FOLDER [--samples 6000] [--output FILE]

Crops of 256 by 256 pixels of the photos in FOLDER, as JPEGs of quality 90 with captions, go into a
dataset; both loaders read its tars: RandomResizedCrop(224, scale (0.9, 1), bicubic), 77 tokens. A
figure is samples per second of CPU time, of the process and its children, after a warm-up; rounds
alternate, and the median counts. open_clip's loader gives normalised float tensors, ours uint8 (the
trainer normalises on the device), so ours is also given with normalising on the CPU.
It needs webdataset 0.2.86, as `open_clip_torch[training]` asks for: open_clip 3.3 fails with later
ones.
"""

import argparse
import io
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from harness import report
from PIL import Image

from clipcurate.datasets.images import ImageIndex
from clipcurate.training.compat import open_clip
from clipcurate.training.config import config_for
from clipcurate.training.data import TrainingData, normalise
from clipcurate.training.model import create_tokenizer
from tests.image_datasets import write_image_dataset

BATCH = 256
PARTS = 8
WORDS = ["a", "photo", "of", "the", "old", "red", "harbour", "two", "boats", "stone", "houses"]


def photo_crops(folder: Path, count: int) -> Iterator[tuple[bytes, list[str]]]:
    """Random square crops of at least 60% of the shorter side, with random captions."""
    rng = np.random.default_rng(0)
    photos = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]
    for number in range(count):
        photo = photos[number % len(photos)]
        side = int(min(photo.size) * rng.uniform(0.6, 1))
        left, top = (int(rng.integers(0, extent - side + 1)) for extent in photo.size)
        crop = photo.crop((left, top, left + side, top + side))
        buffer = io.BytesIO()
        crop.resize((256, 256), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        caption = " ".join(rng.choice(WORDS, int(rng.integers(6, 16))))
        yield buffer.getvalue(), [f"{caption} {number}"]


def make_dataset(folder: Path, photos: Path, samples: int) -> str:
    each = samples // PARTS
    crops = photo_crops(photos, samples)
    parts = ([next(crops) for _ in range(each)] for _ in range(PARTS))
    return write_image_dataset(str(folder), parts, "jpg", block_bytes=2 << 20)


def our_batches(url: str, normalised: bool) -> Iterator[int]:
    config = config_for(
        "tiny",
        {
            "batch_size": str(BATCH),
            "image_size": "224",
            "context_length": "77",
            "decode_threads": "1",
        },
    )
    data = TrainingData(ImageIndex.open(url), config, create_tokenizer(config.model))
    for batch in data.batches(0, 1 << 30):
        if normalised:
            normalise(batch.images)
        yield len(batch.images)


def open_clip_batches(url: str, samples: int, workers: int) -> Iterator[int]:
    from open_clip_train.data import get_wds_dataset

    args = SimpleNamespace(
        train_data=f"{url}/{{name}}",
        train_data_upsampling_factors=None,
        train_num_samples=samples,
        dataset_resampled=False,
        seed=0,
        batch_size=BATCH,
        workers=workers,
        world_size=1,
        rank=0,
        distributed=False,
    )
    names = sorted(str(path) for path in Path(url).glob("*.tar"))
    args.train_data = "::".join(names)
    transform = open_clip.image_transform(
        224, is_train=True, aug_cfg={"scale": (0.9, 1.0)}, mean=None, std=None
    )
    info = get_wds_dataset(args, transform, True, tokenizer=open_clip.SimpleTokenizer())
    while True:
        for images, _ in info.dataloader:
            yield len(images)


def cpu_seconds() -> float:
    times = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(t.ru_utime + t.ru_stime for t in times)


def measured(make: Callable[[], Iterator[int]], samples: int) -> dict[str, float]:
    """Run a loader in a process of its own; children are waited for, so their time counts."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(writer, json.dumps(_run(make, samples)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        result = json.loads(pipe.read())
    os.waitpid(child, 0)
    return {
        "samples_per_cpu_second": result["seen"] / result["cpu"],
        "samples_per_second": result["seen"] / result["wall"],
        "memory_mib": result["memory"] / 2**20,
    }


def _run(make: Callable[[], Iterator[int]], samples: int) -> dict[str, float]:
    batches, seen = make(), 0
    for _ in range(4):
        next(batches)
    began, cpu = time.perf_counter(), cpu_seconds() + _children_now()
    while seen < samples:
        seen += next(batches)
    wall = time.perf_counter() - began
    used = cpu_seconds() + _children_now() - cpu
    return {"seen": seen, "cpu": used, "wall": wall, "memory": _memory_of_tree()}


def _descendants() -> list[int]:
    found, pending = [], [os.getpid()]
    while pending:
        pid = pending.pop()
        for task in Path(f"/proc/{pid}/task").iterdir():
            pending += [int(child) for child in (task / "children").read_text().split()]
        found.append(pid)
    return found[1:]


def _children_now() -> float:
    """CPU seconds of living descendants."""
    ticks = 0
    for pid in _descendants():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory_of_tree() -> float:
    """Proportional set size of the process and its descendants, bytes."""
    total = 0
    for pid in [os.getpid(), *_descendants()]:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = make_dataset(Path(folder) / "d", options.photos, options.samples)
        size = sum(path.stat().st_size for path in Path(url).glob("*.tar"))
        loaders: dict[str, Callable[[], Iterator[int]]] = {
            "ours": lambda: our_batches(url, normalised=False),
            "ours, normalised on the CPU": lambda: our_batches(url, normalised=True),
            "open_clip, 1 worker": lambda: open_clip_batches(url, options.samples, 1),
        }
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in loaders}
        for _ in range(options.rounds):
            for name, make in loaders.items():
                runs[name].append(measured(make, options.samples))
    medians = {
        name: {key: statistics.median(run[key] for run in of) for key in of[0]}
        for name, of in runs.items()
    }
    show(medians)
    results = {
        "samples": options.samples,
        "rounds": options.rounds,
        "photos": sorted(path.name for path in options.photos.iterdir()),
        "bytes_per_sample": size // options.samples,
        "results": medians,
    }
    report(results, options.output)


def show(medians: dict[str, dict[str, float]]) -> None:
    """Print a line per loader for people."""
    theirs = medians["open_clip, 1 worker"]["samples_per_cpu_second"]
    for name, figures in medians.items():
        ratio = figures["samples_per_cpu_second"] / theirs
        print(
            f"{name:30} {figures['samples_per_cpu_second']:8.0f} samples per CPU-second"
            f" ({ratio:.2f} x)  {figures['samples_per_second']:8.0f}/s"
            f"  {figures['memory_mib']:6.0f} MiB"
        )


if __name__ == "__main__":
    main()
