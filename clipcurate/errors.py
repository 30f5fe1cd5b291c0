"""Every error that clipcurate raises on purpose. A message names what, why, and the remedy."""


class ClipcurateError(Exception):
    """Root of the tree: catch this to catch everything that clipcurate raises on purpose."""


class InvalidInputError(ClipcurateError):
    """What the caller asked for cannot be meant: a wrong option, an unknown rule, a bad number.

    Example: `Matcher.build(entries, rule="metaclip9")`.
    """


class MetadataError(InvalidInputError):
    """A metadata file is not a list of distinct, non-empty entries."""


class PoolError(ClipcurateError):
    """Something about the pool stops the work: no file matches, or a column is missing."""


class UnreadableInputError(PoolError):
    """An input's bytes cannot be read as its format (say, a truncated parquet file).

    A match task that fails so twice (on another worker, if there is one) is quarantined: its rows
    are listed as unknown.
    """


class InputChangedError(PoolError):
    """An input is not the file that was pinned when the run was planned."""


class StorageError(ClipcurateError):
    """Reading or writing failed for a reason outside the data: no space, no permission."""


class NotFoundError(ClipcurateError):
    """The named run, task, dataset or metadata does not exist."""


class ConflictError(ClipcurateError):
    """The request contradicts what exists: a port in use, a run with other settings."""


class LeaseLostError(ClipcurateError):
    """The worker's lease on a task is no longer valid; what it did for the task is void."""


class UnavailableError(ClipcurateError):
    """A service or Redis cannot be reached now; the same call may succeed later."""


class ForbiddenError(ClipcurateError):
    """The caller is known, and may not do what it asked for."""


class ProcessorError(ClipcurateError):
    """Kernels were compiled for a later processor than the one that is to run them."""


class DatasetError(ClipcurateError):
    """A dataset's files contradict its manifest."""


class TrainingError(ClipcurateError):
    """Training cannot go on: non-finite loss, or a checkpoint of other settings."""
