"""Datasets of images as publishing writes them, but without a run."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from clipcurate import storage
from clipcurate.datasets import blocks
from clipcurate.datasets.manifest import FileRecord, Manifest, publish
from clipcurate.datasets.outcomes import Totals
from clipcurate.datasets.publishing import publish_images
from clipcurate.hashing import hash_file

ImageAndTexts = tuple[bytes, Sequence[str]]


def write_image_dataset(
    url: str,
    parts: Iterable[Iterable[ImageAndTexts]],
    extension: str = "png",
    block_bytes: int = blocks.BLOCK_BYTES,
) -> str:
    """Write a tar per part, the table of blocks and a manifest; return `url`."""
    tars = []
    storage.filesystem(url)[0].makedirs(storage.filesystem(url)[1], exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for part, rows in enumerate(parts):
            samples = ((image, extension, record(texts)) for image, texts in rows)
            tars.append(publish_images(samples, part, Path(folder), url, block_bytes))
        table = blocks.table([tar.blocks or [] for tar in tars])
        path = Path(folder) / "table"
        with path.open("wb") as file:
            np.save(file, table)
        digest, size = hash_file(path), path.stat().st_size
        storage.place(path, storage.join(url, blocks.NAME))
    files = [
        FileRecord("pairs-00000.parquet", "pairs", size=0, hash="", rows=1, part=0),
        *(replace(tar, blocks=None) for tar in tars),
        FileRecord(blocks.NAME, blocks.ROLE, size, digest, len(table)),
    ]
    name = url.rpartition("/")[2]
    publish(url, Manifest({"name": name}, name, Totals(), {}, {}, 0, 0, 0, [], tuple(files), {}))
    return url


def record(texts: Sequence[str]) -> dict[str, object]:
    return {"texts": [{"text": text} for text in texts]}
