"""Errors across the wire: one table, used by the server's interceptor and by the clients."""

from collections.abc import Callable
from typing import Any

import grpc

from clipcurate import errors

ERROR_KEY = "clipcurate-error"

CODES: dict[type[errors.ClipcurateError], grpc.StatusCode] = {
    errors.MetadataError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnreadableInputError: grpc.StatusCode.DATA_LOSS,
    errors.InputChangedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PoolError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StorageError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.ConflictError: grpc.StatusCode.ALREADY_EXISTS,
    errors.LeaseLostError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    errors.ProcessorError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DatasetError: grpc.StatusCode.DATA_LOSS,
    errors.TrainingError: grpc.StatusCode.INTERNAL,
    errors.ClipcurateError: grpc.StatusCode.INTERNAL,
}
_BY_NAME = {error.__name__: error for error in CODES}
_TRANSIENT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    # No caller of ours cancels a call whose end it waits for. A server that stops cancels those
    # that no thread of it has taken up yet (grpc/grpc#41785).
    grpc.StatusCode.CANCELLED,
}


def code_of(error: errors.ClipcurateError) -> grpc.StatusCode:
    """Return the gRPC status that stands for `error`."""
    return CODES.get(type(error), grpc.StatusCode.INTERNAL)


def error_from(
    error: grpc.RpcError, target: str, hint: Callable[[str], str] = lambda _: ""
) -> errors.ClipcurateError:
    """Return the exception that a failed call stands for, as the server raised it if it is ours.

    Args:
        error: what gRPC raised.
        target: who was called.
        hint: says what to do about the details of a connection that failed, or nothing.
    """
    call: grpc.Call = error  # type: ignore[assignment]
    code, details = call.code(), call.details() or ""
    trailing = dict(call.trailing_metadata() or ())
    ours = _BY_NAME.get(str(trailing.get(ERROR_KEY, "")))
    if ours is not None:
        return ours(details)
    if code in _TRANSIENT:
        remedy = hint(details) or "is the service up?"
        return errors.UnavailableError(f"{target}: {details} ({code.name}); {remedy}")
    return errors.ClipcurateError(f"{target}: {details} ({code.name})")


def code_of_call(context: Any) -> grpc.StatusCode:
    """Return how a call that is over ended, as its server sees it; CANCELLED: the client left."""
    code: grpc.StatusCode | None = context.code()
    if code is not None:
        return code
    return grpc.StatusCode.OK if context.is_active() else grpc.StatusCode.CANCELLED
