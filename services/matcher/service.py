"""The RPCs of Matcher."""

from collections.abc import Iterator

import grpc
import pyarrow as pa

from clipcurate.errors import InvalidInputError
from clipcurate.rpc.v1 import matcher_pb2, matcher_pb2_grpc
from services.matcher import metrics
from services.matcher.library import Library

MAX_TEXTS = 8192


class MatcherService(matcher_pb2_grpc.MatcherServicer):
    """Matcher of `matcher.proto`."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def ListMetadata(
        self, request: matcher_pb2.ListMetadataRequest, context: grpc.ServicerContext
    ) -> matcher_pb2.ListMetadataResponse:
        infos = [
            matcher_pb2.MetadataInfo(
                fingerprint=which.fingerprint, num_entries=len(matcher.entries), rule=matcher.rule
            )
            for which, matcher in self._library.list().items()
        ]
        return matcher_pb2.ListMetadataResponse(metadata=infos)

    def MatchBatch(
        self, request: matcher_pb2.MatchBatchRequest, context: grpc.ServicerContext
    ) -> matcher_pb2.MatchBatchResponse:
        if len(request.texts) > MAX_TEXTS:
            raise InvalidInputError(
                f"{len(request.texts):,} texts in one batch; send at most {MAX_TEXTS:,}"
            )
        matcher = self._library.get(request.metadata_fingerprint)
        texts = pa.array(list(request.texts), pa.large_string())
        matches = matcher.match(texts)
        metrics.count(texts, matches)
        names = matcher.entries.take(pa.array(matches.entry_ids)) if request.include_entries else []
        return matcher_pb2.MatchBatchResponse(
            row_offsets=matches.row_offsets.tolist(),
            entry_ids=matches.entry_ids.tolist(),
            entries=[str(name) for name in names],
        )

    def MatchStream(
        self,
        request_iterator: Iterator[matcher_pb2.MatchStreamRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[matcher_pb2.MatchStreamResponse]:
        for request in request_iterator:
            hits = self.MatchBatch(request.batch, context)
            yield matcher_pb2.MatchStreamResponse(batch_id=request.batch_id, hits=hits)
