"""Requests for datasets: as the library has them, and as they go over the wire."""

from collections.abc import Mapping
from typing import Any, TypeVar

from clipcurate.balancing import Semantics, TailRule
from clipcurate.datasets.request import EmissionRequest, ImageName, Kind
from clipcurate.errors import InvalidInputError
from clipcurate.rpc.v1 import ledger_pb2 as pb

KIND_NUMBERS: dict[Kind, pb.EmissionKind.ValueType] = {
    "raw": pb.EMISSION_KIND_RAW,
    "matched": pb.EMISSION_KIND_MATCHED,
    "balanced": pb.EMISSION_KIND_BALANCED,
}
KIND_NAMES: dict[int, Kind] = {n: kind for kind, n in KIND_NUMBERS.items()}

_SEMANTICS_NUMBERS: dict[Semantics, pb.Semantics.ValueType] = {
    "pair": pb.SEMANTICS_PAIR,
    "metaclip2": pb.SEMANTICS_METACLIP2,
    "record": pb.SEMANTICS_RECORD,
}
_SEMANTICS_NAMES: dict[int, Semantics] = {
    pb.SEMANTICS_UNSPECIFIED: "pair",
    **{number: name for name, number in _SEMANTICS_NUMBERS.items()},
}
_TAIL_RULE_NUMBERS: dict[TailRule, pb.TailRule.ValueType] = {
    "positive": pb.TAIL_RULE_POSITIVE,
    "literal": pb.TAIL_RULE_LITERAL,
}
_TAIL_RULE_NAMES: dict[int, TailRule] = {
    pb.TAIL_RULE_UNSPECIFIED: "positive",
    **{number: name for name, number in _TAIL_RULE_NUMBERS.items()},
}
_GROUP_NUMBERS: dict[ImageName | None, pb.Group.ValueType] = {
    None: pb.GROUP_UNSPECIFIED,
    "url": pb.GROUP_URL,
    "image": pb.GROUP_IMAGE,
}
_GROUP_NAMES: dict[int, ImageName | None] = {n: name for name, n in _GROUP_NUMBERS.items()}
Name = TypeVar("Name")


def spec_of(request: EmissionRequest) -> pb.EmissionSpec:
    """Return a request as messages have it, without a training."""
    spec = pb.EmissionSpec(
        kind=KIND_NUMBERS[request.kind],
        seed=request.seed,
        round=request.round,
        part_bytes=request.part_bytes,
        semantics=_SEMANTICS_NUMBERS[request.semantics],
        tail_rule=_TAIL_RULE_NUMBERS[request.tail_rule],
        group=_GROUP_NUMBERS[request.group],
    )
    for target in ("t", "size", "tail_share"):
        if (value := getattr(request, target)) is not None:
            is_base = request.size is not None and target != "size"
            setattr(spec, f"base_{target}" if is_base else target, value)
    return spec


def request_of(spec: pb.EmissionSpec) -> EmissionRequest:
    """Return an emission's request.

    Raises:
        InvalidInputError: a number that means nothing here, or a request that cannot be meant.
    """
    target = spec.WhichOneof("target")
    chosen: dict[str, Any] = {str(target): getattr(spec, target)} if target else {}
    if base := spec.WhichOneof("base"):
        if target != "size":
            raise InvalidInputError("an emission's base goes with an exact size")
        chosen[base.removeprefix("base_")] = getattr(spec, base)
    if spec.part_bytes:
        chosen["part_bytes"] = spec.part_bytes
    return EmissionRequest(
        _name("kind", spec.kind, KIND_NAMES),
        seed=spec.seed,
        round=spec.round,
        semantics=_name("semantics", spec.semantics, _SEMANTICS_NAMES),
        tail_rule=_name("tail rule", spec.tail_rule, _TAIL_RULE_NAMES),
        group=_name("group", spec.group, _GROUP_NAMES),
        **chosen,
    )


def _name(what: str, number: int, names: Mapping[int, Name]) -> Name:
    if number not in names:
        known = ", ".join(f"{n} ({name})" for n, name in names.items())
        raise InvalidInputError(
            f"an emission's {what} is {number}, which this service does not know; known: {known}. "
            "Use a client of the same version"
        )
    return names[number]
