"""The matchers that this process holds, by fingerprint."""

import logging
import threading
from collections import OrderedDict

from clipcurate.errors import InvalidInputError, NotFoundError
from clipcurate.languages import MatcherFor
from clipcurate.matching import Matcher
from clipcurate.metadata import Metadata
from clipcurate.rpc.references import read
from clipcurate.rpc.v1 import ledger_pb2

log = logging.getLogger(__name__)


class Library:
    """Matchers by fingerprint of their metadata: pinned ones, and the last few that runs used."""

    def __init__(self, cached: int) -> None:
        self._cached = cached
        self._pinned: dict[str, Matcher] = {}
        self._recent: OrderedDict[str, Matcher] = OrderedDict()
        self._lock = threading.Lock()

    def pin(self, metadata: Metadata, rule: str, engine: str) -> None:
        """Build a matcher and keep it for good."""
        self._pinned[metadata.fingerprint] = _build(metadata, rule, engine)

    def list(self) -> dict[str, Matcher]:
        """Return all matchers in order of fingerprint."""
        with self._lock:
            return dict(sorted({**self._recent, **self._pinned}.items()))

    def get(self, fingerprint: str) -> Matcher:
        """Return a matcher; "" means the only one.

        Raises:
            NotFoundError: this process holds no such metadata.
            InvalidInputError: none is named although there are several.
        """
        found = self.list()
        if not fingerprint and len(found) == 1:
            return next(iter(found.values()))
        if not fingerprint and found:
            raise InvalidInputError(f"name a metadata fingerprint, one of: {', '.join(found)}")
        if fingerprint not in found:
            known = ", ".join(found) or "none"
            raise NotFoundError(f"no metadata {fingerprint!r} here; loaded: {known}")
        return found[fingerprint]

    def for_run(self, spec: ledger_pb2.RunSpec) -> MatcherFor:
        """Return what loads a run's matcher of a metadata language when it is asked for."""
        refs = {ref.language: ref for ref in spec.metadata}
        return lambda name: self._load(refs[name], spec) if name in refs else None

    def _load(self, ref: ledger_pb2.MetadataRef, spec: ledger_pb2.RunSpec) -> Matcher:
        found = self.list().get(ref.fingerprint)
        if found is None or (found.rule, found.engine) != (spec.rule, spec.engine):
            content = read(ref.object)
            found = _build(Metadata.from_bytes(content), spec.rule, spec.engine)
        with self._lock:
            self._recent[ref.fingerprint] = found
            self._recent.move_to_end(ref.fingerprint)
            while len(self._recent) > self._cached:
                self._recent.popitem(last=False)
        return found


def _build(metadata: Metadata, rule: str, engine: str) -> Matcher:
    log.info("building a matcher", extra={"entries": len(metadata.entries)})
    return Matcher.build(metadata.entries, rule, engine)
