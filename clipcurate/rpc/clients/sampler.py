"""Client of the Sampler service."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from clipcurate.rpc.clients.base import Client
from clipcurate.rpc.settings import SecuritySettings
from clipcurate.rpc.v1 import sampler_pb2, sampler_pb2_grpc


class SamplerClient(Client):
    """Published pairs. Methods mirror the Sampler service of `sampler.proto`."""

    def __init__(self, target: str, security: SecuritySettings | None = None) -> None:
        super().__init__(target, security)
        self._stub = sampler_pb2_grpc.SamplerStub(self.channel)

    def stream_pairs(
        self,
        run_id: str,
        emission_key: str = "",
        *,
        cursor: int = 0,
        batch_pairs: int = 0,
        columns: Sequence[str] = (),
    ) -> Iterator[tuple[pa.Table, int]]:
        """Yield tables of pairs in dataset order, each with the cursor that resumes after it."""
        request = sampler_pb2.StreamPairsRequest(
            run_id=run_id,
            emission_key=emission_key,
            cursor=cursor,
            batch_pairs=batch_pairs,
            columns=columns,
        )
        for response in self.stream(self._stub.StreamPairs, request):
            yield pa.ipc.open_stream(response.arrow_ipc).read_all(), response.next_cursor
