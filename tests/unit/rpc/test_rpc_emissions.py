from typing import get_args

import pytest

from clipcurate.balancing import Semantics
from clipcurate.datasets.request import EmissionRequest
from clipcurate.errors import InvalidInputError
from clipcurate.rpc.emissions import KIND_NUMBERS, request_of, spec_of
from clipcurate.rpc.v1 import ledger_pb2 as pb

REQUESTS = [
    EmissionRequest("raw"),
    EmissionRequest("matched", round=2**32 - 1, part_bytes=2**62),
    EmissionRequest("balanced", t=0.1 + 0.2, seed=2**64 - 1),
    EmissionRequest("balanced", size=2**53 + 1),
    EmissionRequest("balanced", size=7, t=3.5),
    EmissionRequest("balanced", size=7, tail_share=0.06),
    EmissionRequest("balanced", tail_share=0.06),
    EmissionRequest("balanced", tail_share=0.06, tail_rule="literal"),
    *[EmissionRequest("balanced", t=3.0, semantics=name) for name in get_args(Semantics)],
    EmissionRequest("balanced", t=3.0, semantics="record", group="url"),
    EmissionRequest("matched", semantics="metaclip2", group="image"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_requests_survive_the_wire(request_: EmissionRequest) -> None:
    sent = spec_of(request_).SerializeToString()
    assert request_of(pb.EmissionSpec.FromString(sent)) == request_


def test_every_number_has_a_name() -> None:
    assert {0, *KIND_NUMBERS.values()} == set(pb.EmissionKind.values())
    for number in pb.Semantics.values():
        request_of(pb.EmissionSpec(kind=pb.EMISSION_KIND_MATCHED, semantics=number))
    for number in pb.TailRule.values():
        request_of(pb.EmissionSpec(kind=pb.EMISSION_KIND_BALANCED, t=1.0, tail_rule=number))


def test_what_is_left_out_is_the_default() -> None:
    assert request_of(pb.EmissionSpec(kind=pb.EMISSION_KIND_RAW)) == EmissionRequest("raw")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (pb.EmissionSpec(), "kind is 0, which this service does not know"),
        (pb.EmissionSpec(kind=99), r"kind is 99.*known: 1 \(raw\), 2 \(matched\), 3 \(balanced\)"),
        (pb.EmissionSpec(kind=2, semantics=77), "semantics is 77.*client of the same version"),
        (pb.EmissionSpec(kind=2, tail_rule=9), r"tail rule is 9.*1 \(positive\), 2 \(literal\)"),
        (pb.EmissionSpec(kind=3, t=1.0, base_t=2.0), "base goes with an exact size"),
        (pb.EmissionSpec(kind=3), "exactly one of t, size and tail share"),
    ],
)
def test_what_means_nothing_is_refused(spec: pb.EmissionSpec, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        request_of(spec)
