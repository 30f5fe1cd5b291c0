"""Finding a pool's shards: what each is, what pins it, and whether it has the columns."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from clipcurate.errors import NotFoundError, PoolError
from clipcurate.pools.columns import Columns
from clipcurate.pools.parquet import read_footer, roles_of
from clipcurate.pools.patterns import File, expand, relative_names
from clipcurate.pools.pins import compute_pin, facts
from clipcurate.pools.shards import Shard, format_of

THREADS = 8  # hashing local files and fetching remote footers both wait more than they compute


def find_shards(patterns: Sequence[str], columns: Columns) -> list[Shard]:
    """Find and pin the shards of a pool, sorted by name.

    Args:
        patterns: files, directories, globs (`**` too) and fsspec URLs. The pool's root is the
            deepest directory that holds all files.
        columns: checked against the schema of every parquet shard whose footer is readable; other
            formats are checked when they are read.

    Raises:
        PoolError: nothing is found, a file is missing or of unknown format, a column is missing,
            or no shard has a row.
        StorageError: the storage refuses to list or read.
    """
    files = expand(patterns)
    names = relative_names([file.url for file in files])
    with ThreadPoolExecutor(THREADS) as threads:
        shards = list(threads.map(lambda file, name: _pin(file, name, columns), files, names))
    if all(shard.known_rows() == 0 for shard in shards):
        raise PoolError(f"{', '.join(patterns)}: the pool is empty: no shard has a row")
    return sorted(shards, key=lambda shard: shard.name)


def _pin(file: File, name: str, columns: Columns) -> Shard:
    if not _is_utf8(name):
        raise PoolError(f"{name!r}: a shard's name must be UTF-8; rename the file")
    try:
        known = facts(file.url, file.info)
    except NotFoundError as error:
        raise PoolError(f"{error}; restore it or leave it out of the pool") from error
    form = format_of(file.url)
    if form is None:
        raise PoolError(f"{name}: unknown format")
    return Shard(
        name=name,
        url=file.url,
        format=form[0],
        compression=form[1],
        size=known.size,
        pin=compute_pin(file.url, known),
        modified=known.modified,
        groups=_groups(file.url, name, columns) if form[0] == "parquet" else None,
    )


def _groups(url: str, name: str, columns: Columns) -> tuple[int, ...] | None:
    """Return the rows of each row group; None if the footer is unreadable."""
    footer = read_footer(url)
    if footer is None:
        return None
    groups, schema = footer
    roles_of(schema, columns, name)
    return groups


def _is_utf8(text: str) -> bool:
    """Say whether a text, a file's name say, can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
