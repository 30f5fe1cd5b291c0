"""The table of who may call what, against everything that can be called, and the docs."""

import re
from collections.abc import Iterator
from typing import get_args

import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from clipcurate.rpc.authorization import ANYONE, TABLE, authorization, names_of
from clipcurate.rpc.settings import Identity, ServiceSettings
from clipcurate.rpc.v1 import counter_pb2, ledger_pb2, matcher_pb2, sampler_pb2, trainer_pb2
from tests.conftest import ROOT

PROTOS = [counter_pb2, ledger_pb2, matcher_pb2, sampler_pb2, trainer_pb2]
SERVED = [proto.DESCRIPTOR for proto in [*PROTOS, health_pb2, reflection_pb2]]


def methods(file: FileDescriptor) -> Iterator[str]:
    for service in file.services_by_name.values():
        for method in service.methods:
            yield f"{service.full_name}/{method.name}"


def test_every_method_of_every_service_is_in_the_table() -> None:
    files = {path.stem for path in (ROOT / "protos" / "clipcurate" / "v1").glob("*.proto")}
    assert {f"{name}_pb2" for name in files} == {p.__name__.rpartition(".")[2] for p in PROTOS}
    assert set(TABLE) == {method for file in SERVED for method in methods(file)}


def test_callers_are_identities() -> None:
    known = {*get_args(Identity), *ANYONE}
    for callers in TABLE.values():
        assert callers
        assert set(callers) <= known


def test_the_docs_have_the_same_table() -> None:
    text = (ROOT / "docs" / "operations" / "security.md").read_text()
    rows = re.findall(r"^\| `(\S+/\S+)` \| (.+) \|$", text, re.MULTILINE)
    assert [(method, tuple(callers.split(", "))) for method, callers in rows] == [*TABLE.items()]


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        ({"peer_dns": [b"matcher", b"localhost"]}, ["matcher", "localhost"]),
        ({"peer_uri": [b"spiffe://a/b"], "peer_dns": [b"c"]}, ["spiffe://a/b", "c"]),
        ({"peer_dns": [b"matcher"], "x509_common_name": [b"client"]}, ["matcher"]),
        ({"x509_common_name": [b"client"]}, ["client"]),
        ({"transport_security_type": [b"ssl"]}, []),
    ],
)
def test_alternative_names_count_before_the_common_name(
    certificate: dict[str, list[bytes]], names: list[str]
) -> None:
    assert names_of(certificate) == names


def test_without_certificates_of_callers_there_is_no_table() -> None:
    assert authorization(ServiceSettings()) == []
