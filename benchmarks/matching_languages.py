"""Rule metaclip2 where words have no spaces between them, against pyahocorasick.

    python benchmarks/matching_languages.py [--texts POOL.parquet ... --metadata FOLDER]

The folder holds a list of entries per language (zh.txt, ja.txt, th.txt), the pools a column `lang`
beside `text`. Without them: made-up words of Han and of Thai characters. One core, processor time,
interleaved rounds, medians of the rounds' ratios; the peer gives the set of entries of every text,
which is checked to be as large as ours.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from harness import TEXTS, arguments, interleaved, median_ratio, report

from clipcurate import metadata
from clipcurate.matching import Matcher
from clipcurate.matching.aho_corasick import AhoCorasick
from clipcurate.matching.rules import RULES


def given(folder: Path, pools: list[str]) -> Iterator[tuple[str, list[str], pa.Array]]:
    """Yield language, entries and texts."""
    table = pa.concat_tables([pq.read_table(pool, columns=["text", "lang"]) for pool in pools])
    codes = pc.replace_substring_regex(pc.fill_null(table["lang"], ""), "[-_].*", "")
    for path in sorted(folder.iterdir()):
        language = path.name.partition(".")[0]
        texts = table["text"].filter(pc.equal(codes, language)).drop_null().slice(0, TEXTS)
        entries = list(metadata.load(str(path), dedupe=True).entries)
        yield language, entries, texts.combine_chunks().cast(pa.large_string())


def made_up() -> Iterator[tuple[str, list[str], pa.Array]]:
    """Yield 200,000 entries and texts of 8 words for two scripts."""
    rng = random.Random(0)
    for name, first, last, longest in (("Han", 0x4E00, 0x5DFF, 4), ("Thai", 0x0E01, 0x0E4E, 10)):
        letters = [chr(code) for code in range(first, last)]
        weights = [1 / (rank + 3) for rank in range(len(letters))]
        words = list(
            {
                "".join(rng.choices(letters, weights, k=rng.randrange(1, longest + 1)))
                for _ in range(300_000)
            }
        )[:200_000]
        common = [1 / (rank + 1) for rank in range(len(words))]
        texts = ["".join(rng.choices(words, common, k=8)) for _ in range(TEXTS // 4)]
        yield name, words, pa.array(texts, pa.large_string())


def compare(entries: list[str], texts: pa.Array, rounds: int) -> dict[str, Any]:
    """Measure one language."""
    ours = Matcher.build(entries, "metaclip2")
    peer = AhoCorasick(entries, RULES["metaclip2"])
    strings, hits = texts.to_pylist(), len(ours.match(texts).entry_ids)

    def reference() -> int:
        return sum(len(peer.words(text)) for text in strings)

    assert reference() == hits, "pyahocorasick finds another number of hits"
    work = {"pyahocorasick": reference, "clipcurate": lambda: ours.match(texts)}
    seconds = interleaved(work, rounds, time.process_time)
    return {
        "entries": len(entries),
        "texts": len(texts),
        "characters_per_text": round(sum(map(len, strings)) / len(strings), 1),
        "hits_per_text": round(hits / len(texts), 1),
        "tables_mb": round(ours.nbytes / 1e6, 1),
        "texts_per_second_one_core": {
            name: round(len(texts) / median(values)) for name, values in seconds.items()
        },
        "ratio": round(median_ratio(seconds["pyahocorasick"], seconds["clipcurate"]), 1),
    }


def main() -> None:
    args = arguments(__doc__).parse_args()
    pools = given(Path(args.metadata), args.texts) if args.texts else made_up()
    results = {name: compare(entries, texts, args.rounds) for name, entries, texts in pools}
    report({"languages": results}, args.output)


if __name__ == "__main__":
    main()
