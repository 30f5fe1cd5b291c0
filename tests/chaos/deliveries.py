"""A worker of the harness's own that delivers counts repeatedly, at once, and late."""

import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from clipcurate.datasets.match_index import SUFFIX
from clipcurate.datasets.run_plan import load_plan
from clipcurate.errors import LeaseLostError, NotFoundError, UnavailableError
from clipcurate.languages import DEFAULT_BYTES, Router
from clipcurate.rpc.clients import CounterClient
from clipcurate.rpc.references import reference
from clipcurate.rpc.v1 import ledger_pb2 as pb
from clipcurate.rpc.worker import Assignment
from clipcurate.storage import join, publish_bytes
from services.matcher.dedup_tasks import DedupTasks
from services.matcher.library import Library
from services.matcher.tables import TableStore
from services.matcher.tasks import match_task, summarize
from tests.chaos.scene import Scene
from tests.chaos.system import COUNTERS

COPIES = 4


def deliver_again(scene: Scene) -> None:
    """Deliver one task's counts several times at once, through both counters in random order.

    Then everything that was delivered before once more, in random order: by then the leases are
    void, or the tasks done, or Redis has forgotten both.
    """
    claimed = scene.ledger.claim("chaos:0", [pb.STAGE_MATCH])
    if claimed is not None:
        scene.deliveries += _deliveries(scene, claimed)
    late = scene.rng.sample(scene.deliveries, len(scene.deliveries))
    with ThreadPoolExecutor(COPIES) as pool:
        list(pool.map(lambda deliver: deliver(), late))


def _deliveries(scene: Scene, claimed: pb.ClaimTaskResponse) -> list[Callable[[], None]]:
    spec, lease = claimed.run.spec, claimed.lease
    plan = load_plan(spec.plan.url, spec.plan.hash)
    folder = join(spec.output_url, "runs", claimed.run.run_id)
    with tempfile.TemporaryDirectory() as tables:
        library = Library(TableStore(Path(tables)), DEFAULT_BYTES)
        router = Router.of(plan.languages, folder, library.for_run(spec))
        assignment = Assignment(lease, claimed.run, threading.Event())
        duplicates = DedupTasks(scene.ledger).duplicates(assignment)
        index = match_task(plan, assignment, router, duplicates)
    folder = join(folder, "index")
    stored = publish_bytes(index.to_bytes(), folder, f"{lease.task.index:06d}", SUFFIX)
    result = summarize(index)
    result.index.CopyFrom(reference(folder, stored))
    result.planned_rows = plan.planned_rows(lease.task.index)
    counts = index.sparse_counts()

    def deliver(address: str) -> None:
        with CounterClient(address) as counter:
            try:
                counter.count_task(lease, result, counts)
            except (LeaseLostError, NotFoundError, UnavailableError):
                return  # void by now, or forgotten, or away: nothing was changed

    addresses = [scene.system.addresses[name] for name in COUNTERS]
    chosen = scene.rng.choices(addresses, k=COPIES)
    return [partial(deliver, address) for address in chosen]
