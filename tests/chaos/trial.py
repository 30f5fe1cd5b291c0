"""Runs over one pool, undisturbed and under faults, compared byte by byte."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np

from clipcurate.datasets.manifest import Manifest
from clipcurate.datasets.run_record import FrozenRun, record_name
from clipcurate.datasets.verify import verify_dataset
from clipcurate.rpc.clients import LedgerClient
from tests.chaos import pool
from tests.chaos.scene import Fault, Recovery, Scene, follow, fresh
from tests.chaos.system import System

LATEST = 0.85
"""No fault later than at this share of the tasks: its consequences belong to the run."""


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run of a variant makes: its number of tasks and its datasets."""

    tasks: int
    manifests: list[Manifest]


@dataclass
class Trial:
    """A system, the inputs, and what undisturbed runs make of them."""

    system: System
    folder: Path
    inputs: Path
    rows: int
    references: dict[str, Reference] = field(default_factory=dict)
    recoveries: list[Recovery] = field(default_factory=list)

    @property
    def output(self) -> Path:
        """Where the present run writes."""
        return self.system.disks["output"].folder / "out"

    def calm(self) -> None:
        """Run each variant undisturbed: the references, once brute force agrees."""
        for variant in pool.VARIANTS:
            scene = self._run(Random(0), variant, [])
            manifests = [verify_dataset(e.plan.dataset_url) for e in scene.run.emissions]
            self.references[variant.name] = Reference(scene.done, manifests)
            if variant is pool.EARLY:
                assert scene.run.frozen_early, "matched before its counts had converged"
                self._judge_alone(variant, scene)
                continue
            url = Path(scene.run.emissions[0].plan.dataset_url)
            counts = pool.brute_force_counts(self.inputs, variant)
            for language, wanted in counts.items():
                found = np.load(url / f"counts-{language}.npy").tolist()
                assert found == wanted, f"{language}: the counts are not brute force's"
            assert all(m.totals.pairs == self.rows for m in manifests), "totals do not add up"

    def disturbed(self, rng: Random, variant: pool.Variant, chosen: Sequence[Fault]) -> None:
        """Run under faults at random moments and compare every byte. Raises AssertionError."""
        moments = sorted(rng.uniform(0, LATEST) for _ in chosen)
        scene = self._run(rng, variant, list(zip(moments, chosen, strict=True)))
        if scene.run.frozen_early:
            self._judge_alone(variant, scene)
            return
        # Under faults it may be matched first: then its counts are complete, as the plain one's.
        same = pool.PLAIN if variant is pool.EARLY else variant
        manifests = self.references[same.name].manifests
        for emission, wanted in zip(scene.run.emissions, manifests, strict=True):
            found = verify_dataset(emission.plan.dataset_url)
            assert found.totals == wanted.totals, "totals differ"
            assert found.content_hash == wanted.content_hash, "rows differ"
            assert found.files == wanted.files, "files differ"
            assert found.dataset_hash == wanted.dataset_hash, "hashes differ"

    def _judge_alone(self, variant: pool.Variant, scene: Scene) -> None:
        """Hold datasets of converged counts against their own snapshot, and that against texts."""
        for emission in scene.run.emissions:
            found = verify_dataset(emission.plan.dataset_url, str(self.output))
            assert found.totals.pairs == self.rows, "totals do not add up"
            assert found.identity["snapshot"] == scene.run.frozen.snapshot_id, "snapshots mixed"
        frozen = FrozenRun.open(str(self.output), record_name(scene.run.frozen.snapshot_id, []))
        counts = pool.brute_force_counts(self.inputs, variant, frozen.counted())
        for language, raw in frozen.raw_counts().items():
            assert raw.tolist() == counts[language], f"{language}: not brute force's counts"

    def _run(self, rng: Random, variant: pool.Variant, moments: list[tuple[float, Fault]]) -> Scene:
        shutil.rmtree(self.output, ignore_errors=True)
        fresh(self.system, self.folder / "copies")
        wanted = pool.submission(self.inputs, variant, self.output, rng.randrange(1000))
        known = self.references.get(variant.name)
        with LedgerClient(self.system.counter) as ledger:
            scene = Scene(self.system, wanted, rng, ledger, self.folder / "copies")
            scene.register()
            follow(scene, moments, known.tasks if known else 0, self.recoveries)
        return scene


@contextmanager
def trial(rows: int) -> Iterator[Trial]:
    """Start the system, run once undisturbed, and yield what disturbed runs are held against."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    inputs = pool.write_inputs(folder / "inputs", rows)
    system = System(folder / "system")
    found = Trial(system, folder, inputs, rows)
    try:
        system.start()
        found.calm()
        yield found
    finally:
        system.stop()
    shutil.rmtree(folder)
