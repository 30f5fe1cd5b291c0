import hashlib
import tarfile
from collections import Counter
from pathlib import Path

from demo.config import FULL, QUICK
from demo.evalset import GROUPS, class_groups, write_eval
from demo.pool import concept_weights


def members(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("test/*.tar")):
        with tarfile.open(path) as tar:
            found.update({m.name: tar.extractfile(m).read() for m in tar})  # type: ignore[union-attr]
    return found


def test_every_class_has_as_many_pictures_and_no_two_are_the_same(tmp_path: Path) -> None:
    count = write_eval(QUICK, tmp_path / "eval")
    found = members(tmp_path / "eval")
    labels = Counter(int(data) for name, data in found.items() if name.endswith(".cls"))
    assert labels == dict.fromkeys(range(QUICK.num_concepts), QUICK.eval_per_class)
    pictures = {data for name, data in found.items() if name.endswith(".jpg")}
    assert len(pictures) == count == QUICK.num_concepts * QUICK.eval_per_class


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        write_eval(QUICK, tmp_path / name)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        hashes.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert hashes[0] == hashes[1]


def test_text_files_name_classes_templates_and_groups(tmp_path: Path) -> None:
    write_eval(QUICK, tmp_path / "eval")
    lines = {path.name: path.read_text().splitlines() for path in (tmp_path / "eval").glob("*.txt")}
    assert lines["classnames.txt"] == QUICK.names
    assert (tmp_path / "eval" / "test" / "nshards.txt").read_text() == "1\n"
    assert all("{c}" in line for line in lines["zeroshot_classification_templates.txt"])
    assert lines["class_groups.txt"] == class_groups(QUICK)


def test_groups_are_thirds_by_frequency() -> None:
    groups = class_groups(FULL)
    assert set(Counter(groups).values()) <= {49, 50}
    weights = concept_weights(FULL)
    lightest = [
        min(w for w, g in zip(weights, groups, strict=True) if g == name) for name in GROUPS
    ]
    heaviest = [
        max(w for w, g in zip(weights, groups, strict=True) if g == name) for name in GROUPS
    ]
    assert lightest[0] > heaviest[1] > lightest[1] > heaviest[2]
