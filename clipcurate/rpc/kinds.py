"""Kinds and semantics of emissions: their names in the library, their numbers on the wire."""

from clipcurate.balancing import Semantics
from clipcurate.datasets.request import Kind
from clipcurate.rpc.v1 import ledger_pb2 as pb

KIND_NUMBERS: dict[Kind, pb.EmissionKind.ValueType] = {
    "raw": pb.EMISSION_KIND_RAW,
    "matched": pb.EMISSION_KIND_MATCHED,
    "balanced": pb.EMISSION_KIND_BALANCED,
}
KIND_NAMES: dict[pb.EmissionKind.ValueType, Kind] = {n: kind for kind, n in KIND_NUMBERS.items()}

SEMANTICS_NUMBERS: dict[Semantics, pb.Semantics.ValueType] = {
    "pair": pb.SEMANTICS_PAIR,
    "metaclip2": pb.SEMANTICS_METACLIP2,
    "record": pb.SEMANTICS_RECORD,
}
SEMANTICS_NAMES: dict[pb.Semantics.ValueType, Semantics] = {
    number: name for name, number in SEMANTICS_NUMBERS.items()
}
