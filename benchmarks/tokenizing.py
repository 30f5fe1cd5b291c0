"""Token ids of captions: ours against open_clip's SimpleTokenizer and a Rust one, in one run.

    python benchmarks/tokenizing.py --texts POOL.parquet … [--output FILE]

The Rust one is Hugging Face's `tokenizers` with open_clip's merges and pattern, on texts that our
cleaning has cleaned. All three give the same ids (checked first); batches of 16 on one thread, as a
thread of the loader makes them. A figure is texts per second, median over interleaved rounds.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from harness import arguments, interleaved, made_up, median_ratio, report, texts_of
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from clipcurate.training.compat import open_clip
from clipcurate.training.tokenizer import ClipTokenizer

BATCH = 16
PATTERN = r"(?i)<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def rust_tokenizer(simple: object) -> Tokenizer:
    """Return open_clip's vocabulary, merges and pattern as a `tokenizers` one."""
    merges = sorted(simple.bpe_ranks, key=simple.bpe_ranks.get)
    bpe = models.BPE(vocab=dict(simple.encoder), merges=merges, end_of_word_suffix="</w>")
    tokenizer = Tokenizer(bpe)
    split = pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    return tokenizer


def batches(texts: list[str]) -> Iterator[list[str]]:
    return (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))


def over(texts: list[str], encode: Callable[[list[str]], object]) -> Callable[[], None]:
    def run() -> None:
        for batch in batches(texts):
            encode(batch)

    return run


def measured(texts: list[str], rounds: int) -> dict[str, float]:
    ours, simple = ClipTokenizer(77), open_clip.SimpleTokenizer()
    rust = rust_tokenizer(simple)

    def by_rust(batch: list[str]) -> list[list[int]]:
        cleaned = [ours.cleaned(text) for text in batch]
        return [found.ids for found in rust.encode_batch_fast(cleaned, add_special_tokens=False)]

    assert ours(texts).equal(simple(texts))
    assert by_rust(texts) == [ours.encode(text) for text in texts]
    work = {"open_clip": simple, "rust": by_rust, "clipcurate": ours}
    runs = {name: over(texts, encode) for name, encode in work.items()}
    seconds = interleaved(runs, rounds, time.perf_counter)
    rates = {name: len(texts) / statistics.median(of) for name, of in seconds.items()}
    times = {f"times_{n}": median_ratio(seconds[n], seconds["clipcurate"]) for n in rates}
    return {"texts": len(texts), **rates, **times}


def main() -> None:
    args = arguments(__doc__).parse_args()
    pools = {Path(path).stem: texts_of(path) for path in args.texts}
    results = {
        name: measured(column.to_pylist(), args.rounds)
        for name, column in (pools or made_up(Random(0))[1]).items()
    }
    report({"texts_per_second": results}, args.output)


if __name__ == "__main__":
    main()
