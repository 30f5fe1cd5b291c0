"""Online balancing as users ask for it: from the command line, and of a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from demo import metadata, pool
from demo.config import QUICK
from tests.conftest import CommandLine

pytest.importorskip("torch", reason="training needs the train extra")

SHORT = ("--set", "seen_pairs=256", "--set", "checkpoint_every=1")


def test_a_matched_dataset_is_balanced_anew_in_each_epoch(
    tmp_path: Path, command_line: CommandLine
) -> None:
    config, output = replace(QUICK, images=240, shard_images=120), tmp_path / "out"
    pool.write_pool(config, tmp_path / "pool")
    metadata.write_metadata(config.names, tmp_path / "metadata.json")
    inputs = ("--pool", tmp_path / "pool", "--metadata", tmp_path / "metadata.json")
    run = ("run", *inputs, "--output", output, "--workers", 1)
    done = command_line(*run, "--emit", "matched", "--emit", "balanced", "--t", 5)
    assert done.returncode == 0, done.stderr
    datasets = {Path(line).name.split("-")[0]: line for line in done.stdout.split()}
    assert command_line("verify", datasets["matched"]).returncode == 0

    online = ("--online", "--t-schedule", 5)
    trained = tmp_path / "online"
    done = command_line("train", datasets["matched"], "--output", trained, *online, *SHORT)
    assert done.returncode == 0, done.stderr
    data = json.loads((trained / "config.json").read_text())["data"]
    assert (data["online"], data["t_schedule"]) == (True, "5")
    assert json.loads((trained / "summary.json").read_text())["seen_pairs"] == 256

    refused = command_line("train", datasets["balanced"], "--output", tmp_path / "no", *online)
    assert refused.returncode != 0
    assert (
        "new coins each epoch (online) keep pairs that only a matched one holds" in refused.stderr
    )

    settings = ("online=true", "t_schedule=5", "seen_pairs=128")
    words = [word for setting in settings for word in ("--train-set", setting)]
    done = command_line(*run, "--emit", "matched", "--train", "tiny", *words)
    assert done.returncode == 0, done.stderr
    (config_file,) = (output / "training").glob("*/config.json")
    assert json.loads(config_file.read_text())["data"]["online"]
