"""The schema of a line of log. Nothing else is ever written where `log_format` is `json`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class LogLine(BaseModel):
    """A JSON object a line; the first five keys are always there, the others where they apply."""

    model_config = ConfigDict(extra="forbid", strict=True)

    time: str = Field(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", description="UTC, milliseconds"
    )
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        description="CRITICAL is the end of the process, or of a thread"
    )
    service: Literal["counter", "matcher", "sampler", "trainer"] = Field(description="who says it")
    logger: str = Field(
        min_length=1, description="Python module; `py.warnings` for warnings of libraries"
    )
    message: str = Field(description="for people; its wording may change")

    run: str | None = Field(None, description="run id")
    stage: str | None = Field(None, description="stage of the task: `match`, `freeze`, …")
    task: Count | None = Field(None, description="number of the task within its stage")
    emission: str | None = Field(None, description="key of the emission that the task is of")
    shard: str | None = Field(
        None, description="shard that the task reads; of several the first (match, keys)"
    )
    worker: str | None = Field(None, description="host and process id of the task's worker")
    lease: Hex | None = Field(None, description="first digits of the task's fencing token")
    training: Hex | None = Field(None, description="training id")
    method: str | None = Field(None, description="gRPC method that is being served")
    trace_id: str | None = Field(
        None, pattern=r"^[0-9a-f]{32}$", description="trace, where tracing is on"
    )
    span_id: str | None = Field(None, pattern=r"^[0-9a-f]{16}$", description="span of the trace")
    exception: str | None = Field(None, description="traceback")

    outcome: Literal["done", "failed", "released", "lease_lost"] | None = Field(
        None, description="how an attempt at a task ended"
    )
    units: Count | None = Field(None, description="units that the attempt did, pairs mostly")
    seconds: Seconds | None = Field(None, description="how long the attempt took")
    cpu_seconds: Seconds | None = Field(None, description="processor time of the process meanwhile")
    peer: str | None = Field(None, description="address of a client whose call was refused")
    files: str | None = Field(None, description="files of certificates that were read again")
    address: str | None = Field(None, description="where the service listens")
    entries: Count | None = Field(None, description="entries of the metadata")
    tables: str | None = Field(None, description="URL of a matcher's tables")
    output: str | None = Field(None, description="folder of a training")
    finished: bool | None = Field(None, description="whether a training went to its end")
    other: dict[str, str] | None = Field(
        None, description="what a library says beside its message, as text"
    )
