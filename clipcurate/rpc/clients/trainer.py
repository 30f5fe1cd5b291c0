"""Client of the Trainer service."""

from collections.abc import Iterator, Sequence

from clipcurate.rpc.clients.base import Client
from clipcurate.rpc.settings import SecuritySettings
from clipcurate.rpc.v1 import ledger_pb2, trainer_pb2, trainer_pb2_grpc


class TrainerClient(Client):
    """Trainings. Methods mirror the Trainer service of `trainer.proto`."""

    def __init__(self, target: str, security: SecuritySettings | None = None) -> None:
        super().__init__(target, security)
        self._stub = trainer_pb2_grpc.TrainerStub(self.channel)

    def start(
        self,
        dataset: str | Sequence[trainer_pb2.WeightedDataset],
        spec: ledger_pb2.TrainSpec,
        output_url: str,
    ) -> trainer_pb2.Training:
        """Start or resume a training on a dataset's folder, or on several to mix. Idempotent."""
        request = trainer_pb2.StartTrainingRequest(spec=spec, output_url=output_url)
        if isinstance(dataset, str):
            request.dataset_url = dataset
        else:
            request.datasets.extend(dataset)
        response: trainer_pb2.StartTrainingResponse = self.call(self._stub.StartTraining, request)
        return response.training

    def watch(
        self, training_id: str, interval_seconds: float = 1.0
    ) -> Iterator[trainer_pb2.Training]:
        """Yield the training now, at every interval, and last when it has ended."""
        request = trainer_pb2.WatchTrainingRequest(
            training_id=training_id, interval_seconds=interval_seconds
        )
        for response in self.stream(self._stub.WatchTraining, request):
            yield response.training

    def stop(self, training_id: str) -> trainer_pb2.Training:
        """Save a checkpoint and stop; one that waits stops at once."""
        request = trainer_pb2.StopTrainingRequest(training_id=training_id)
        response: trainer_pb2.StopTrainingResponse = self.call(self._stub.StopTraining, request)
        return response.training

    def list(self) -> list[trainer_pb2.Training]:
        """Return the server's trainings, newest first."""
        response: trainer_pb2.ListTrainingsResponse = self.call(
            self._stub.ListTrainings, trainer_pb2.ListTrainingsRequest()
        )
        return [*response.trainings]
