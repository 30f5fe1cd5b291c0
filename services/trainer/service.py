"""The RPCs of Trainer."""

import json
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import grpc

from clipcurate.errors import InvalidInputError
from clipcurate.rpc.v1 import ledger_pb2, trainer_pb2, trainer_pb2_grpc
from clipcurate.training.mixing import Datasets, mixed
from clipcurate.training.progress import Standing
from services.trainer.jobs import Job, Jobs, Request

WATCH_SECONDS = 1.0
MIN_WATCH_SECONDS = 0.05


class TrainerService(trainer_pb2_grpc.TrainerServicer):
    """Trainer of `trainer.proto`."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def StartTraining(
        self, request: trainer_pb2.StartTrainingRequest, context: grpc.ServicerContext
    ) -> trainer_pb2.StartTrainingResponse:
        what = request_of(_datasets_of(request), request.spec)
        job = self._jobs.start(what, request.output_url)
        return trainer_pb2.StartTrainingResponse(training=describe(job))

    def WatchTraining(
        self, request: trainer_pb2.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[trainer_pb2.WatchTrainingResponse]:
        job = self._jobs.get(request.training_id)
        interval = max(request.interval_seconds or WATCH_SECONDS, MIN_WATCH_SECONDS)
        while context.is_active():
            ended = job.future.done()
            yield trainer_pb2.WatchTrainingResponse(training=describe(job))
            if ended:
                return
            wait([job.future], timeout=interval)

    def StopTraining(
        self, request: trainer_pb2.StopTrainingRequest, context: grpc.ServicerContext
    ) -> trainer_pb2.StopTrainingResponse:
        job = self._jobs.get(request.training_id)
        job.stop(context.time_remaining())
        return trainer_pb2.StopTrainingResponse(training=describe(job))

    def ListTrainings(
        self, request: trainer_pb2.ListTrainingsRequest, context: grpc.ServicerContext
    ) -> trainer_pb2.ListTrainingsResponse:
        return trainer_pb2.ListTrainingsResponse(trainings=map(describe, self._jobs.list()))


def request_of(dataset_url: Datasets, spec: ledger_pb2.TrainSpec) -> Request:
    """Return the request that a message stands for."""
    return Request(dataset_url, spec.preset, dict(spec.overrides), spec.eval_url)


def _datasets_of(request: trainer_pb2.StartTrainingRequest) -> Datasets:
    """Return what to train on. Raises InvalidInputError: it is named twice, or a bad weight."""
    if request.datasets and request.dataset_url:
        raise InvalidInputError(
            "dataset_url and datasets are given; name all that are to be mixed in datasets alone"
        )
    if not request.datasets:
        return request.dataset_url
    urls = [dataset.url for dataset in request.datasets]
    return mixed(urls, [Fraction(dataset.weight) for dataset in request.datasets])


def describe(job: Job) -> trainer_pb2.Training:
    """Return a training as clients see it."""
    what = job.what
    message = trainer_pb2.Training(
        training_id=job.training_id,
        **_described(what.dataset_url),
        spec=ledger_pb2.TrainSpec(
            preset=what.preset, overrides=what.overrides, eval_url=what.eval_url
        ),
        output_url=what.output_url,
        state=_state(job),
        total_steps=what.config.total_steps,
        note=job.note,
    )
    if job.standing:
        _describe_standing(job.standing, message)
    if job.future.done() and not job.left:
        _describe_end(job, message)
    return message


def _state(job: Job) -> trainer_pb2.TrainingState.ValueType:
    """Return the state of a training that has not ended."""
    if job.running is None:
        return trainer_pb2.TRAINING_STATE_WAITING
    return trainer_pb2.TRAINING_STATE_RUNNING


def _described(datasets: Datasets) -> dict[str, Any]:
    """Return the field of a training that says what it is on."""
    if isinstance(datasets, str):
        return {"dataset_url": datasets}
    return {"datasets": [trainer_pb2.WeightedDataset(**asdict(source)) for source in datasets]}


def _describe_standing(standing: Standing, message: trainer_pb2.Training) -> None:
    message.step, message.loss = standing.step, standing.loss
    message.learning_rate = standing.lr
    message.logit_scale = standing.logit_scale
    message.pairs_per_second = standing.pairs_per_second
    message.mfu = standing.mfu
    if standing.evaluation:
        message.evaluation_json = json.dumps(standing.evaluation)


def _describe_end(job: Job, message: trainer_pb2.Training) -> None:
    message.note = ""
    if job.error is not None:
        message.state = trainer_pb2.TRAINING_STATE_FAILED
        message.error = str(job.error)
    elif (summary := job.outcome)["finished"]:
        message.state = trainer_pb2.TRAINING_STATE_DONE
        message.step, message.loss = summary["step"], summary["loss"]
        message.evaluation_json = json.dumps(summary["evaluation"])
    else:
        message.state = trainer_pb2.TRAINING_STATE_STOPPED
