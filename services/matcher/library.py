"""The matchers that this process holds."""

from typing import NamedTuple

from clipcurate.errors import InvalidInputError, NotFoundError, UnavailableError
from clipcurate.languages import ByteCache, MatcherFor
from clipcurate.matching import Matcher
from clipcurate.metadata import Metadata
from clipcurate.rpc.references import read
from clipcurate.rpc.v1 import ledger_pb2
from clipcurate.storage import join
from services.matcher.tables import TableStore

TABLES = "tables"
"""Folder of tables below a run's output."""


class Which(NamedTuple):
    """What a matcher is the matcher of."""

    fingerprint: str
    rule: str
    engine: str


class Library:
    """Matchers: pinned ones, and under a byte budget those that runs used last.

    Args:
        tables: where tables are kept.
        cache_bytes: the budget.
        expected: how many are going to be pinned; until then nothing can be asked for.
    """

    def __init__(self, tables: TableStore, cache_bytes: int, expected: int = 0) -> None:
        self._tables = tables
        self._awaited = expected
        self._pinned: dict[Which, Matcher] = {}
        self._recent: ByteCache[Which, Matcher] = ByteCache(cache_bytes)

    def pin(self, metadata: Metadata, rule: str, engine: str) -> None:
        """Keep a matcher for good; its tables lie in the local folder."""
        which = Which(metadata.fingerprint, rule, engine)
        self._pinned[which] = self._tables.matcher("", *which, lambda: metadata)
        self._awaited -= 1

    def list(self) -> dict[Which, Matcher]:
        """Return all matchers in order of fingerprint, rule and engine."""
        return dict(sorted({**self._recent.values(), **self._pinned}.items()))

    def get(self, fingerprint: str) -> Matcher:
        """Return a matcher; "" means the only one.

        Raises:
            UnavailableError: not all are pinned yet.
            NotFoundError: this process holds no such metadata.
            InvalidInputError: there are several, of other metadata or by other rules.
        """
        if self._awaited > 0:
            raise UnavailableError("this matcher is still loading its metadata; call again")
        held = self.list()
        found = {which: m for which, m in held.items() if fingerprint in ("", which.fingerprint)}
        if len({(which.fingerprint, which.rule) for which in found}) > 1:
            several = ", ".join(f"{which.fingerprint} ({which.rule})" for which in found)
            raise InvalidInputError(
                f"name a metadata fingerprint that only one of these has: {several}"
            )
        if not found:
            known = ", ".join(which.fingerprint for which in held) or "none"
            raise NotFoundError(f"no metadata {fingerprint!r} here; loaded: {known}")
        return next(iter(found.values()))

    def for_run(self, spec: ledger_pb2.RunSpec) -> MatcherFor:
        """Return what loads a run's matcher of a language, or builds it, when it is asked for."""
        refs = {ref.language: ref for ref in spec.metadata}

        def matcher_for(language: str) -> Matcher | None:
            return self._of_run(refs[language], spec) if language in refs else None

        return matcher_for

    def _of_run(self, ref: ledger_pb2.MetadataRef, spec: ledger_pb2.RunSpec) -> Matcher:
        which = Which(ref.fingerprint, spec.rule, spec.engine)
        folder = join(spec.output_url, TABLES)

        def load() -> Matcher:
            return self._tables.matcher(
                folder, *which, lambda: Metadata.from_bytes(read(ref.object))
            )

        return self._recent.get(which, load)
