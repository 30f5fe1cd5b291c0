import tarfile
from pathlib import Path

import pytest

from clipcurate.errors import DatasetError
from clipcurate.training import evaluate

from ..conftest import CLASSES, add, render
from ..test_evaluate import oracle


def test_retrieval_in_clip_benchmarks_layout(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    with tarfile.open(tmp_path / "test" / "0.tar", "w") as tar:
        for number, name in enumerate(CLASSES):
            add(tar, f"{number}.png", render(name))
            add(tar, f"{number}.txt", f"a {name}\nthe {name}\n\n{name} alone".encode())
    figures = evaluate.evaluate_on(oracle(), str(tmp_path))
    assert (figures["task"], figures["images"], figures["texts"]) == ("retrieval", 8, 24)
    assert figures["image_to_text"]["r@1"] == figures["text_to_image"]["r@1"] == 1
    assert figures["image_to_text"]["chance@1"] == pytest.approx(3 / 24)
    blind = evaluate.evaluate_on(oracle(wrong=frozenset(range(8))), str(tmp_path))
    assert blind["image_to_text"]["r@1"] == pytest.approx(1 / 8)
    with tarfile.open(tmp_path / "test" / "1.tar", "w") as tar:
        add(tar, "9.png", render(CLASSES[0]))
    with pytest.raises(DatasetError, match="'9' has no captions"):
        evaluate.evaluate_on(oracle(), str(tmp_path))
