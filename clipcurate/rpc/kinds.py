"""Emission kinds: their names in the library, and their numbers on the wire."""

from clipcurate.datasets.emission import Kind
from clipcurate.rpc.v1 import ledger_pb2 as pb

KIND_NUMBERS: dict[Kind, pb.EmissionKind.ValueType] = {
    "raw": pb.EMISSION_KIND_RAW,
    "matched": pb.EMISSION_KIND_MATCHED,
    "balanced": pb.EMISSION_KIND_BALANCED,
}
KIND_NAMES: dict[pb.EmissionKind.ValueType, Kind] = {n: kind for kind, n in KIND_NUMBERS.items()}
