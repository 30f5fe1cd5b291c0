"""Images whose texts lie in several rows: the tasks that gather their texts and settle them."""

from collections.abc import Sequence

import numpy as np

from clipcurate import storage
from clipcurate.datasets.cuts import resolve_cuts
from clipcurate.datasets.grouping import gather, sum_up
from clipcurate.datasets.grouping_files import publish_gathered, publish_settled, read_image_ids
from clipcurate.datasets.outcomes import Scored
from clipcurate.datasets.request import image_partitions
from clipcurate.datasets.snapshot import Counts
from clipcurate.errors import InvalidInputError
from clipcurate.rpc.emissions import request_of
from clipcurate.rpc.references import read, reference
from clipcurate.rpc.v1 import ledger_pb2 as pb
from clipcurate.rpc.worker import Assignment
from services.sampler.run_files import RunFiles


def gather_task(
    assignment: Assignment, files: RunFiles, counts: Counts, scored: pb.TaskRecord
) -> pb.TaskResult:
    """Settle the texts of one match task among themselves; `scored` is its SCORE task."""
    number, index = assignment.task.index, files.index(assignment.task.index)
    if index is None:
        return pb.TaskResult(gather=pb.GatherResult())
    request = request_of(assignment.emission.spec)
    if request.group is None:
        raise InvalidInputError("an emission that groups no rows has nothing to gather")
    own = Scored(index, np.frombuffer(read(scored.result.score.scores), "<f8"))
    slices = files.plan.tasks[number].slices
    image_ids = read_image_ids(files.plan, slices, request.group, index, assignment.check)
    task = gather(own, image_ids, request)
    entries, summary = sum_up(task, request, counts, resolve_cuts(request, counts, ()))
    assignment.check()
    folder = _folder(assignment, files)
    partitions = image_partitions(files.run.spec.num_tasks)
    stored = publish_gathered(task, entries, partitions, folder, number)
    sums = storage.publish_bytes(summary.to_bytes(), folder, f"{number:06d}", ".json")
    result = pb.GatherResult(images=reference(folder, stored), summary=reference(folder, sums))
    return pb.TaskResult(gather=result)


def settle_task(
    assignment: Assignment, files: RunFiles, gathered: Sequence[pb.TaskRecord]
) -> pb.TaskResult:
    """Settle the images of one partition; `gathered` are the GATHER tasks in order."""
    urls = [record.result.gather.images.url or None for record in gathered]
    request, folder = request_of(assignment.emission.spec), _folder(assignment, files)
    stored = publish_settled(urls, assignment.task.index, request, folder, assignment.check)
    return pb.TaskResult(settle=pb.SettleResult(changes=reference(folder, stored)))


def _folder(assignment: Assignment, files: RunFiles) -> str:
    return files.folder("images", assignment.task.emission_key)
