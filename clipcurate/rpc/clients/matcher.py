"""Client of the Matcher service."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from clipcurate.matching import Matches
from clipcurate.rpc.clients.base import Client
from clipcurate.rpc.settings import SecuritySettings
from clipcurate.rpc.v1 import matcher_pb2, matcher_pb2_grpc


class MatcherClient(Client):
    """Matching. Methods mirror the Matcher service of `matcher.proto`."""

    def __init__(self, target: str, security: SecuritySettings | None = None) -> None:
        super().__init__(target, security)
        self._stub = matcher_pb2_grpc.MatcherStub(self.channel)

    def list_metadata(self) -> list[matcher_pb2.MetadataInfo]:
        """Return what the server can match against."""
        response: matcher_pb2.ListMetadataResponse = self.call(
            self._stub.ListMetadata, matcher_pb2.ListMetadataRequest()
        )
        return list(response.metadata)

    def match_batch(
        self, texts: Sequence[str], fingerprint: str = "", *, include_entries: bool = False
    ) -> tuple[Matches, list[str]]:
        """Match at most 8,192 texts; return the hits and, if asked, their entries."""
        request = matcher_pb2.MatchBatchRequest(
            metadata_fingerprint=fingerprint, texts=texts, include_entries=include_entries
        )
        response: matcher_pb2.MatchBatchResponse = self.call(self._stub.MatchBatch, request)
        return _matches(response), list(response.entries)

    def match_stream(
        self, batches: Iterable[Sequence[str]], fingerprint: str = ""
    ) -> Iterator[Matches]:
        """Match batches in order; results come while later batches are still being sent."""

        def requests() -> Iterator[matcher_pb2.MatchStreamRequest]:
            for number, texts in enumerate(batches):
                batch = matcher_pb2.MatchBatchRequest(metadata_fingerprint=fingerprint, texts=texts)
                yield matcher_pb2.MatchStreamRequest(batch_id=number, batch=batch)

        for response in self.stream(self._stub.MatchStream, requests()):
            yield _matches(response.hits)


def _matches(response: matcher_pb2.MatchBatchResponse) -> Matches:
    return Matches(
        np.array(response.row_offsets, np.int64), np.array(response.entry_ids, np.uint32)
    )
