"""From a webdataset pool of real pictures to a trained model, by one command."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.conftest import CommandLine

pytest.importorskip("torch", reason="training needs the train extra")

SEEN_PAIRS = 8_000


def write_emoji_pool(shared: Path, path: Path) -> int:
    """Write emoji and their English names as a webdataset tar; return the samples."""
    table = pq.read_table(shared / "pools" / "emoji_multilingual.parquet")
    english = table.filter(pc.equal(table["lang"], "en")).to_pylist()
    names = {row["url"]: row["text"] for row in english if row["id"].endswith(":name")}
    with zipfile.ZipFile(shared / "images" / "noto_emoji_png128.zip") as images:
        with tarfile.open(path, "w") as tar:
            for number, (url, name) in enumerate(sorted(names.items())):
                members = {"png": images.read(url), "txt": f"emoji of {name}".encode()}
                for extension, content in members.items():
                    member = tarfile.TarInfo(f"{number:09d}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return len(names)


def test_emoji_train_a_model_that_retrieves(
    shared_data: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    pool = tmp_path / "emoji.tar"
    samples = write_emoji_pool(shared_data, pool)
    metadata = shared_data / "terms" / "standin_metadata_500k.json.gz"
    args = ["--pool", pool, "--metadata", metadata, "--output", tmp_path / "out", "--t", 20]
    training = ["--train", "tiny", "--train-set", f"seen_pairs={SEEN_PAIRS}"]
    done = command_line("run", *args, *training, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "R@1" in done.stderr
    (folder,) = (tmp_path / "out" / "training").iterdir()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["seen_pairs"] >= SEEN_PAIRS
    for direction in ("image_to_text", "text_to_image"):
        figures = summary["evaluation"]["train_retrieval"][direction]
        assert figures["r@5"] > 3 * figures["chance@5"]
    manifest = json.loads((Path(done.stdout.strip()) / "manifest.json").read_text())
    assert manifest["pairs_read"] == samples
