import pyarrow as pa

from clipcurate.matching.aho_corasick import AhoCorasick
from clipcurate.matching.rules import RULES


def test_finds_prefixes_suffixes_and_infixes_of_longer_entries() -> None:
    engine = AhoCorasick(["b c", "a b c d", "c", "a", "d", "b c d e"], RULES["metaclip1"])
    assert engine.match(pa.array(["a b c d"]))[0].tolist() == [0, 1, 2, 3, 4]


def test_nulls_have_no_hits() -> None:
    matches = AhoCorasick(["a"], RULES["metaclip1"]).match(pa.array(["a", None, "b a"]))
    assert matches.row_offsets.tolist() == [0, 1, 1, 2]
    assert matches.entry_ids.tolist() == [0, 0]
