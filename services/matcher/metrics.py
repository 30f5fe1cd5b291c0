"""What a matcher shows to Prometheus: how much it matches, for tasks and for clients."""

import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client import Counter

from clipcurate.languages import Names, Router
from clipcurate.matching import Matches

TEXTS = Counter("clipcurate_matcher_texts_total", "Texts matched, for tasks and for clients")
TEXT_BYTES = Counter("clipcurate_matcher_text_bytes_total", "UTF-8 bytes of the texts matched")
HITS = Counter("clipcurate_matcher_hits_total", "Hits found in the texts matched")


def count(texts: "pa.Array | pa.ChunkedArray", matches: Matches) -> None:
    """Count a batch of texts, nulls aside, and its hits."""
    TEXTS.inc(len(texts) - texts.null_count)
    TEXT_BYTES.inc(pc.sum(pc.binary_length(texts)).as_py() or 0)
    HITS.inc(len(matches.entry_ids))


class CountingRouter(Router):
    """A router that counts what goes through it; also texts whose language has no metadata."""

    def match(self, texts: pa.ChunkedArray, languages: Names) -> Matches:
        """Return the hits of a column of texts, as a `Router` does."""
        matches = super().match(texts, languages)
        count(texts, matches)
        return matches
