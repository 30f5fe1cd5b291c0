import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clipcurate.datasets.request import (
    EmissionRequest,
    require_groupable,
    require_no_whole,
)
from clipcurate.errors import InvalidInputError
from clipcurate.hashing import hash_json

RAW, MATCHED = EmissionRequest("raw"), EmissionRequest("matched")
BALANCED = EmissionRequest("balanced", t=4.0, seed=7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "all"}, "unknown kind 'all'; known: raw, matched, balanced"),
        ({"kind": "balanced"}, "exactly one"),
        ({"kind": "balanced", "t": 1.0, "tail_share": 0.1}, "exactly one"),
        ({"kind": "matched", "t": 1.0}, "others take none"),
        ({"kind": "raw", "size": 1}, "others take none"),
        ({"kind": "raw", "tail_share": 0.1}, "others take none"),
        ({"kind": "balanced", "t": 0.0}, "positive and finite"),
        ({"kind": "balanced", "t": -1.0}, "positive and finite"),
        ({"kind": "balanced", "t": float("inf")}, "positive and finite"),
        ({"kind": "balanced", "t": float("nan")}, "positive and finite"),
        ({"kind": "balanced", "size": 0}, "at least 1"),
        ({"kind": "balanced", "size": 1 << 63}, "below"),
        ({"kind": "balanced", "tail_share": 0.0}, "between 0 and 1"),
        ({"kind": "balanced", "tail_share": 1.0}, "between 0 and 1"),
        ({"kind": "raw", "seed": -1}, "seed -1"),
        ({"kind": "raw", "seed": 1 << 64}, "seed 18446744073709551616"),
        ({"kind": "raw", "round": -1}, "round -1"),
        ({"kind": "raw", "round": 1 << 32}, "round 4294967296"),
        ({"kind": "raw", "part_bytes": -1}, "part_bytes -1"),
        ({"kind": "raw", "part_bytes": 0}, "part_bytes must be at least 1"),
        ({"kind": "balanced", "t": 1.0, "tail_rule": "zero"}, "known: positive, literal"),
        ({"kind": "matched", "tail_rule": "literal"}, "goes with a balanced emission"),
        ({"kind": "matched", "semantics": "text"}, "known: pair, metaclip2, record"),
        ({"kind": "raw", "semantics": "metaclip2"}, "keeps every readable pair"),
        ({"kind": "raw", "semantics": "record"}, "keeps every readable pair"),
        ({"kind": "balanced", "size": 3, "semantics": "record"}, "may fall within a record"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        EmissionRequest(**fields)


def test_identity_is_json_and_tells_requests_apart() -> None:
    run = {"id": "r", "rule": "metaclip1", "metadata": {"all": "f"}}
    requests = [
        RAW,
        MATCHED,
        BALANCED,
        replace(BALANCED, t=np.nextafter(4.0, 5)),
        replace(BALANCED, seed=8),
        replace(BALANCED, round=1),
        replace(BALANCED, part_bytes=1000),
        replace(BALANCED, semantics="metaclip2"),
        replace(BALANCED, semantics="record"),
        EmissionRequest("balanced", size=4),
        EmissionRequest("balanced", size=4, tail_share=0.5),
        EmissionRequest("balanced", size=4, t=5.0),
        EmissionRequest("balanced", tail_share=0.5),
        EmissionRequest("balanced", tail_share=0.5, tail_rule="literal"),
    ]
    ids = {hash_json(request.identity(run, "s")) for request in requests}
    ids |= {hash_json(RAW.identity(run, "t")), hash_json(RAW.identity({**run, "id": "q"}, "s"))}
    ids |= {hash_json(RAW.identity(run, "s", None, lost)) for lost in ([], ["a"])}
    assert len(ids) == len(requests) + 4
    identity = BALANCED.identity(run, "s")
    assert json.loads(json.dumps(identity)) == identity
    assert identity["target"] == {"t": "0x1.0000000000000p+2"}
    for request in requests:
        assert EmissionRequest.from_identity(request.identity(run, "s")) == request


def test_what_needs_one_language() -> None:
    for request in (replace(BALANCED, semantics="record"), replace(MATCHED, semantics="record")):
        assert request.for_languages(["all"]) == request
        with pytest.raises(InvalidInputError, match="needs metadata of one language"):
            request.for_languages(["en", "zh"])
    for request in (RAW, MATCHED, BALANCED, replace(BALANCED, semantics="metaclip2")):
        assert request.for_languages(["en", "zh"]) == request


def test_a_size_in_several_languages_has_a_base() -> None:
    size = EmissionRequest("balanced", size=9)
    assert size.for_languages(["all"]) == size
    assert size.for_languages(["en", "zh"]) == replace(size, tail_share=0.06)
    for based in (replace(size, t=5.0), replace(size, tail_share=0.2)):
        assert based.for_languages(["en", "zh"]) == based
        with pytest.raises(InvalidInputError, match="one language a size says it all"):
            based.for_languages(["all"])
    with pytest.raises(InvalidInputError, match="exactly one"):
        replace(size, t=5.0, tail_share=0.2)


def test_a_tail_rule_needs_a_tail_share() -> None:
    literal = replace(BALANCED, tail_rule="literal")
    literal.for_languages(["en", "zh"])
    replace(literal, t=None, tail_share=0.1).for_languages(["all"])
    with pytest.raises(InvalidInputError, match="literal goes with a tail share, or with metadata"):
        literal.for_languages(["all"])


def test_groups_that_cannot_be_meant() -> None:
    grouped = EmissionRequest("balanced", t=1.0, semantics="record", group="url")
    wrongs: list[dict[str, Any]] = [{"semantics": "pair"}, {"group": "rows"}]
    for wrong in [*wrongs, {"kind": "raw", "t": None}]:
        with pytest.raises(InvalidInputError, match=r"group|raw"):
            replace(grouped, **wrong)
    require_groupable([grouped, EmissionRequest("raw")], "uid")
    with pytest.raises(InvalidInputError, match="changes nothing where duplicates"):
        require_groupable([grouped], "url")
    sized = EmissionRequest("balanced", size=9, semantics="metaclip2", group="image")
    with pytest.raises(InvalidInputError, match="rethreshold --size"):
        require_groupable([sized])
    with pytest.raises(InvalidInputError, match="--group"):
        require_no_whole([grouped], dedup=False)


def test_a_group_is_part_of_the_identity_where_it_is_set() -> None:
    plain = EmissionRequest("matched", semantics="record")
    grouped = replace(plain, group="image")
    assert "group" not in plain.identity({}, "s")
    assert grouped.identity({}, "s") == plain.identity({}, "s") | {"group": "image"}
    assert EmissionRequest.from_identity(grouped.identity({}, "s")) == grouped
