"""Options that several commands share, and how they become values."""

from pathlib import Path
from typing import Annotated

import typer

from clipcurate import metadata, storage
from clipcurate.balancing.stability import StabilityRule
from clipcurate.cli.languages import LanguageRequest
from clipcurate.cli.submission import RunRequest, TrainRequest
from clipcurate.errors import InvalidInputError
from clipcurate.languages import load_language_map
from clipcurate.pools import Columns

DEFAULT_SERVER = "127.0.0.1:50051"

Pool = Annotated[
    list[str], typer.Option("--pool", help="File, folder, glob or fsspec URL; repeatable.")
]
MetadataFiles = Annotated[
    list[str],
    typer.Option(
        "--metadata",
        help="Entries: JSON list, text lines or parquet; also .gz. Or a folder of such files, one "
        "per language (en.json, zh.txt); repeatable.",
    ),
]
IdentifyLanguages = Annotated[
    str,
    typer.Option(
        "--identify-languages",
        help="Tell languages by their texts: builtin, or a fastText model (lid.176.bin).",
    ),
]
LanguageMap = Annotated[
    str, typer.Option("--language-map", help="JSON object: language code to metadata language.")
]
Output = Annotated[str, typer.Option("--output", help="Folder (or fsspec URL) for everything.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--t",
        "--t-max",
        help="Keep a text of an entry with count c with probability min(1, t/c). As --t-max: the "
        "largest t wanted, for `rethreshold` to cut smaller datasets from.",
    ),
]
Size = Annotated[int | None, typer.Option("--size", help="Keep exactly so many pairs.")]
TailShare = Annotated[
    float | None,
    typer.Option("--tail-share", help="t such that rarer entries hold this share of all counts."),
]
TailRule = Annotated[
    str,
    typer.Option(
        "--tail-rule",
        help="Where a tail share gives t = 0: positive (the smallest positive count), literal (0, "
        "as published: all of that language is dropped).",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the coins.")]
Round = Annotated[int, typer.Option("--round", help="How often the pool was balanced before.")]
TextSemantics = Annotated[
    str,
    typer.Option(
        "--semantics",
        help="What an image with several texts yields: pair (a coin per text), metaclip2 (one "
        "text, then its coin), record (all texts if any coin succeeds).",
    ),
]
Group = Annotated[
    str,
    typer.Option(
        "--group",
        help="What --semantics takes for one image: all rows with its url, or image (its key); by "
        "default each row.",
    ),
]
Emit = Annotated[
    list[str] | None,
    typer.Option("--emit", help="balanced, matched, raw (repeatable), or none to count only."),
]
Rule = Annotated[str, typer.Option("--rule", help="Matching rule.")]
Engine = Annotated[str, typer.Option("--engine", help="Matching engine.")]
Dedupe = Annotated[
    bool,
    typer.Option(
        "--dedupe", help="Drop repeated and empty entries of the metadata (not: --dedup)."
    ),
]
Dedup = Annotated[
    str,
    typer.Option(
        "--dedup", help="Drop pairs of the pool with the same uid, or url (not: --dedupe)."
    ),
]
TaskRows = Annotated[int, typer.Option("--task-rows", min=1, help="About so many rows a task.")]
OrderSeed = Annotated[
    int, typer.Option("--order-seed", min=0, max=2**64 - 1, help="Keys the order of hand-out.")
]
PartBytes = Annotated[
    int, typer.Option("--part-bytes", help="Pool bytes per part of a dataset; 0: 256 MiB.")
]
Epsilon = Annotated[
    float, typer.Option("--epsilon", help="Counts are converged when drift is below this …")
]
StableWindows = Annotated[int, typer.Option("--windows", help="… for so many windows in a row, …")]
WindowShare = Annotated[float, typer.Option("--window", help="… each of this share of the tasks.")]
AnnouncedPairs = Annotated[
    int,
    typer.Option(
        "--announced-pairs",
        min=0,
        help="The pool is a part of one of so many pairs: project the counts to that.",
    ),
]
Freeze = Annotated[
    str,
    typer.Option(
        "--freeze",
        help="When counts are frozen: complete, or as soon as they are converged, while matching "
        "goes on.",
    ),
]
TextColumn = Annotated[
    list[str] | None,
    typer.Option("--text-column", help="Default: text, caption …; repeatable, for several texts."),
]
UrlColumn = Annotated[str | None, typer.Option("--url-column", help="Default: url, URL …")]
KeyColumn = Annotated[
    str | None, typer.Option("--key-column", help="What identifies the image: uid, key, url …")
]
UidColumn = Annotated[str | None, typer.Option("--uid-column", help="Pair ids, 32 hex digits.")]
LangColumn = Annotated[str | None, typer.Option("--lang-column", help="Default: lang, language …")]
Train = Annotated[str, typer.Option("--train", help="Then train with this preset, e.g. tiny.")]
TrainSet = Annotated[
    list[str] | None, typer.Option("--train-set", help="name=value instead of the preset's.")
]
EvalUrl = Annotated[str, typer.Option("--eval", help="What to evaluate on, as for `evaluate`.")]
Server = Annotated[
    str, typer.Option("--server", envvar="CLIPCURATE_SERVER", help="Address of the counter.")
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Matcher processes.")]
Anew = Annotated[bool, typer.Option("--anew", help="If the run is archived, do all of it again.")]
RedisUrl = Annotated[
    str, typer.Option("--redis", help="Use this Redis instead of an embedded one.")
]
State = Annotated[Path | None, typer.Option("--state", help="Folder for Redis's data and logs.")]


def columns_of(
    text: list[str] | None,
    url: str | None,
    key: str | None,
    uid: str | None,
    lang: str | None,
) -> Columns:
    """Turn options into the columns wanted. Raises PoolError."""
    first, more = (text[0], text[1:]) if text else (None, [])
    return Columns(first, url, key, uid, lang, more_texts=tuple(more))


def train_request(preset: str, settings: list[str] | None, eval_url: str) -> TrainRequest | None:
    """Turn options into the training wanted, if any. Raises InvalidInputError."""
    if not preset:
        if settings or eval_url:
            raise InvalidInputError("--train-set and --eval go with --train PRESET")
        return None
    overrides = settings_of("--train-set", settings)
    return TrainRequest(preset, overrides, absolute(eval_url) if eval_url else "")


def settings_of(option: str, settings: list[str] | None) -> dict[str, str]:
    """Return the settings that `option`'s values, name=value, replace. Raises InvalidInputError."""
    pairs = [setting.partition("=") for setting in settings or []]
    if bad := ["".join(pair) for pair in pairs if not (pair[0] and pair[1])]:
        raise InvalidInputError(f"{option} takes name=value, not {bad[0]!r}")
    return {name: value for name, _, value in pairs}


def run_request(
    pool: list[str],
    columns: Columns,
    metadata_files: list[str],
    dedupe: bool,
    output: str,
    identify_languages: str = "",
    language_map: str = "",
    **rest: str | int | StabilityRule,
) -> RunRequest:
    """Turn options into the run wanted. Raises MetadataError, NotFoundError, InvalidInputError."""
    codes = load_language_map(language_map) if language_map else {}
    return RunRequest(
        [absolute(p) for p in pool],
        columns,
        metadata.load_languages(metadata_files, dedupe=dedupe),
        absolute(output),
        languages=LanguageRequest(identify_languages, codes),
        **rest,  # type: ignore[arg-type]
    )


def absolute(url: str) -> str:
    """Make a local path absolute, since services have working directories of their own."""
    if "://" in url or "::" in url:
        return url
    return str(Path(url).expanduser().absolute())


def state_folder(state: Path | None, output: str) -> Path:
    """Return where Redis's data and the logs go: beside the output if it is local."""
    if state is not None:
        return state.absolute()
    if storage.is_local(output):
        return Path(absolute(output)) / ".clipcurate"
    raise InvalidInputError("the output is remote: name a local folder with --state")
