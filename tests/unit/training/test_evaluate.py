import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from clipcurate.datasets.images import ImageIndex
from clipcurate.errors import DatasetError, InvalidInputError
from clipcurate.training import evaluate
from clipcurate.training.config import config_for
from clipcurate.training.model import create_model, create_tokenizer

from .conftest import CLASSES, coloured_samples, render, write_dataset


class Oracle(nn.Module):
    """Knows the name of every rendered image by its pixels, and finds names in texts."""

    def __init__(self, wrong: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.wrong = wrong
        self.known: list[Tensor] = []

    def learn(self, images: Tensor) -> None:
        self.known = list(images)

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        distances = torch.stack([(images - k).abs().flatten(1).sum(1) for k in self.known])
        classes = distances.argmin(dim=0).tolist()
        return torch.eye(len(CLASSES))[[0 if c in self.wrong else c for c in classes]]

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        return torch.eye(len(CLASSES))[tokens[:, 0]]


def names_in(texts: Sequence[str]) -> Tensor:
    return torch.tensor([[next(i for i, c in enumerate(CLASSES) if c in t)] for t in texts])


def oracle(wrong: frozenset[int] = frozenset()) -> evaluate.Encoder:
    model = Oracle(wrong)
    recorder = nn.Module()
    recorder.anchor = nn.Parameter(torch.zeros(1))
    seen: list[Tensor] = []
    recorder.encode_image = lambda images: seen.append(images) or torch.ones(len(images), 1)
    images = [evaluate.decode_image(render(name)) for name in CLASSES]
    evaluate.Encoder(recorder, names_in, 32).images(i for i in images if i is not None)
    model.learn(seen[0])
    return evaluate.Encoder(model, names_in, 32)


def test_an_oracle_is_always_right(evaluation_url: str) -> None:
    figures = evaluate.zero_shot(oracle(), evaluation_url)
    assert figures["accuracy"] == figures["macro"] == 1
    assert figures["images"] == 16
    assert figures["groups"] == {"head": 1, "tail": 1}


def test_what_a_model_gets_wrong_shows_in_its_class_and_group(evaluation_url: str) -> None:
    figures = evaluate.zero_shot(oracle(wrong=frozenset({1, 3})), evaluation_url)
    assert figures["macro"] == pytest.approx(6 / 8)
    assert figures["groups"] == {"head": 1, "tail": 0.5}
    wrong = [c["class"] for c in figures["per_class"] if c["accuracy"] == 0]
    assert wrong == [CLASSES[1], CLASSES[3]]


def test_an_untrained_model_is_near_chance(evaluation_url: str) -> None:
    config = config_for("tiny").model
    encoder = evaluate.Encoder(create_model(config, 0), create_tokenizer(config), 32)
    assert 0 <= evaluate.zero_shot(encoder, evaluation_url)["macro"] <= 0.6


def test_clip_benchmarks_split_folder_is_found(tmp_path: Path, evaluation_url: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluation_url, folder)
    (folder / "class_groups.txt").unlink()
    (folder / "test").mkdir()
    (folder / "0.tar").rename(folder / "test" / "0.tar")
    figures = evaluate.zero_shot(oracle(), str(folder))
    assert figures["macro"] == 1
    assert "groups" not in figures


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classnames.txt", None, "classnames.txt"),
        ("zeroshot_classification_templates.txt", "\n", "empty"),
        ("class_groups.txt", "head\n", "1 class groups for 8 classes"),
        ("classnames.txt", "one\n", "8 class groups for 1"),
        ("0.tar", None, "no .*tar"),
    ],
)
def test_an_incomplete_set_is_refused(
    tmp_path: Path, evaluation_url: str, name: str, content: str | None, message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluation_url, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(InvalidInputError, match=message):
        evaluate.zero_shot(oracle(), str(folder))


def test_a_label_beyond_the_classes_is_named(tmp_path: Path, evaluation_url: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluation_url, folder)
    (folder / "classnames.txt").write_text("\n".join(CLASSES[:4]))
    (folder / "class_groups.txt").unlink()
    with pytest.raises(DatasetError, match="sample 's0004': class 4"):
        evaluate.zero_shot(oracle(), str(folder))


def test_retrieval_shares_equal_texts_and_skips_broken_images(tmp_path: Path) -> None:
    samples = [(render(CLASSES[i % 8]), t) for i, (_, t) in enumerate(coloured_samples(16))]
    index = ImageIndex.open(write_dataset(tmp_path / "d", [*samples, (b"broken", ["red disc"])]))
    figures = evaluate.retrieval(oracle(), index, 100)
    assert (figures["images"], figures["texts"]) == (16, 16)
    assert figures["image_to_text"]["r@1"] == figures["text_to_image"]["r@1"] == 1
    assert figures["text_to_image"]["chance@1"] == pytest.approx(2 / 16)
