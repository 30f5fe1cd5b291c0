from pathlib import Path

import fsspec
import pytest

from clipcurate.errors import PoolError
from clipcurate.pools.patterns import expand, relative_names


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.csv", "sub/c.parquet", "sub/deep/d.tar", "README.md", "x.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(tree: Path, *patterns: str) -> list[str]:
    return relative_names([f"{tree}/x", *(file.url for file in expand(patterns))])[1:]


def test_a_directory_means_all_known_files_below_it(tree: Path) -> None:
    expected = ["a.csv", "b.jsonl", "sub/c.parquet", "sub/deep/d.tar"]
    assert names(tree, str(tree)) == names(tree, f"{tree}/") == expected


def test_globs_reach_below_with_two_stars(tree: Path) -> None:
    assert names(tree, f"{tree}/**/*.parquet", f"{tree}/*.csv") == ["a.csv", "sub/c.parquet"]


def test_a_glob_skips_unknown_files_and_enters_directories(tree: Path) -> None:
    assert names(tree, f"{tree}/s*") == ["sub/c.parquet", "sub/deep/d.tar"]
    assert names(tree, f"{tree}/*") == names(tree, str(tree))


def test_a_file_found_twice_counts_once(tree: Path) -> None:
    assert names(tree, f"{tree}/a.csv", f"{tree}/sub/../a.csv", f"file://{tree}/*.csv") == ["a.csv"]


def test_a_literal_name_wins_over_its_meaning_as_a_glob(tree: Path) -> None:
    (tree / "[ab].csv").write_bytes(b"x")
    assert names(tree, f"{tree}/[ab].csv") == ["[ab].csv"]


def test_hidden_and_unfinished_files_stay_out_of_directories(tree: Path) -> None:
    for name in (".tmp-1/e.csv", "_temporary/f.csv", ".g.csv"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(b"x")
    assert names(tree, str(tree)) == ["a.csv", "b.jsonl", "sub/c.parquet", "sub/deep/d.tar"]


def test_a_directory_of_img2dataset_is_its_tars(tmp_path: Path) -> None:
    for name in ("00000.tar", "00000.parquet", "00000_stats.json"):
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path, str(tmp_path)) == ["00000.tar"]
    assert names(tmp_path, f"{tmp_path}/*.parquet") == ["00000.parquet"]


def test_json_files_alone_are_shards(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"{}")
    assert names(tmp_path, str(tmp_path)) == ["a.json"]


def test_symbolic_links_are_followed(tree: Path) -> None:
    (tree / "links").mkdir()
    (tree / "links/z.csv").symlink_to(tree / "a.csv")
    for pattern in ("links", "links/*.csv", "links/z.csv"):
        assert names(tree, f"{tree}/{pattern}") == ["links/z.csv"]


def test_urls_of_other_file_systems_work() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe({"/patterns/a.csv": b"x", "/patterns/s/b.csv": b"x"})
    urls = ["memory:///patterns/a.csv", "memory:///patterns/s/b.csv"]
    assert [file.url for file in expand(["memory://patterns"])] == urls
    assert [file.url for file in expand(["memory://patterns/**/*.csv"])] == urls


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nope.parquet", "no such file.*check the path"),
        ("a.csv/x", "no such file"),
        ("*.zip", "no file of a known format.*\\.parquet"),
        ("empty", "no file of a known format"),
        ("README.md", "unknown format; known extensions: .parquet"),
    ],
)
def test_what_cannot_be_meant_is_named(tree: Path, pattern: str, message: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(PoolError, match=f"{tree}/{pattern}".replace("*", "\\*") + ".*" + message):
        expand([f"{tree}/a.csv", f"{tree}/{pattern}"])


@pytest.mark.parametrize("url", ["nosuch://a/b.csv", "zip://a.csv::/b.zip"])
def test_urls_that_cannot_work_are_refused(url: str) -> None:
    with pytest.raises(PoolError, match=url):
        expand([url])


def test_names_are_relative_to_the_deepest_common_directory() -> None:
    assert relative_names(["/a/b/x.csv"]) == ["x.csv"]
    assert relative_names(["/a/b/x.csv", "/a/c/x.csv"]) == ["b/x.csv", "c/x.csv"]
    assert relative_names(["/a/b/x.csv", "/a/b/x.csv/y.csv"]) == ["x.csv", "x.csv/y.csv"]
    assert relative_names(["/a/x.csv", "s3://a/x.csv"]) == ["/a/x.csv", "s3://a/x.csv"]
