"""Who may call what: the one table, and the interceptor that holds every call to it.

With mutual TLS a caller's certificate says who it is. Without, nothing does, and everybody may call
everything: that is for services on one machine.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import grpc

from clipcurate.errors import ForbiddenError
from clipcurate.rpc.interceptors import rewrapped
from clipcurate.rpc.settings import Identity, ServiceSettings

log = logging.getLogger(__name__)

CLIENT = "client"
"""Whoever gives orders: the command line, and programs of users."""
MATCHER, SAMPLER, TRAINER = "matcher", "sampler", "trainer"
_WORKERS = (MATCHER, SAMPLER, TRAINER)
ANYONE = ("anyone",)
"""Whoever has a certificate of the authority, whatever its name: probes need no more."""

TABLE: Mapping[str, tuple[str, ...]] = {
    "clipcurate.v1.Counter/CountTask": (MATCHER,),
    "clipcurate.v1.Counter/GetCounts": (SAMPLER, CLIENT),
    "clipcurate.v1.Counter/ReplaceCounts": (SAMPLER, CLIENT),
    "clipcurate.v1.Ledger/CreateRun": (CLIENT,),
    "clipcurate.v1.Ledger/GetRun": (SAMPLER, TRAINER, CLIENT),
    "clipcurate.v1.Ledger/ListRuns": (CLIENT,),
    "clipcurate.v1.Ledger/CancelRun": (CLIENT,),
    "clipcurate.v1.Ledger/RetryRun": (CLIENT,),
    "clipcurate.v1.Ledger/ArchiveRun": (CLIENT,),
    "clipcurate.v1.Ledger/WatchRun": (CLIENT,),
    "clipcurate.v1.Ledger/ListTasks": (MATCHER, SAMPLER, CLIENT),
    "clipcurate.v1.Ledger/ClaimTask": _WORKERS,
    "clipcurate.v1.Ledger/RenewLease": _WORKERS,
    "clipcurate.v1.Ledger/CompleteTask": _WORKERS,
    "clipcurate.v1.Ledger/FailTask": _WORKERS,
    "clipcurate.v1.Ledger/ReleaseTask": _WORKERS,
    "clipcurate.v1.Matcher/ListMetadata": (CLIENT,),
    "clipcurate.v1.Matcher/MatchBatch": (CLIENT,),
    "clipcurate.v1.Matcher/MatchStream": (CLIENT,),
    "clipcurate.v1.Sampler/StreamPairs": (CLIENT,),
    "clipcurate.v1.Trainer/StartTraining": (CLIENT,),
    "clipcurate.v1.Trainer/WatchTraining": (CLIENT,),
    "clipcurate.v1.Trainer/StopTraining": (CLIENT,),
    "clipcurate.v1.Trainer/ListTrainings": (CLIENT,),
    "grpc.health.v1.Health/Check": ANYONE,
    "grpc.health.v1.Health/Watch": ANYONE,
    "grpc.health.v1.Health/List": ANYONE,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": (CLIENT,),
}
"""Callers by method. What is not here may be called by nobody."""

_NAMES = {
    name: identity
    for identity in get_args(Identity)
    for name in (identity, f"spiffe://clipcurate/{identity}")
}


def authorization(settings: ServiceSettings) -> list["AuthorizationInterceptor"]:
    """Return the interceptor of a service that asks for certificates; none for another one."""
    if settings.tls_authority is None:
        return []
    return [AuthorizationInterceptor(settings.identities or _NAMES)]


class AuthorizationInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses calls that the table does not allow, with ForbiddenError.

    Args:
        names: identities by the names in certificates that stand for them.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap the handler of the called method."""
        handler = continuation(details)
        method = details.method.removeprefix("/")
        if handler is None or TABLE.get(method) == ANYONE:
            return handler

        def wrap(behaviour: Any) -> Any:
            def call(request: Any, context: Any) -> Any:
                self._check(method, context)
                return behaviour(request, context)

            return call

        return rewrapped(handler, wrap)

    def _check(self, method: str, context: Any) -> None:
        allowed = TABLE.get(method, ())
        found = names_of(context.auth_context())
        identities = {self._names[name] for name in found if name in self._names}
        if len(identities) == 1 and identities <= set(allowed):
            return
        who = " and ".join(sorted(identities)) or f"unknown ({', '.join(found) or 'no name'})"
        message = (
            f"{who} may not call {method}; {', '.join(allowed) or 'nobody'} may: call it with a "
            "certificate of that name (CLIPCURATE_TLS_CERTIFICATE)"
        )
        log.warning("refused: %s", message, extra={"peer": context.peer()})
        raise ForbiddenError(message)


def names_of(auth_context: Mapping[str, Iterable[bytes]]) -> list[str]:
    """Return the names in a peer's certificate: its alternative names, or else its common name."""
    for keys in (("peer_uri", "peer_dns"), ("x509_common_name",)):
        found = [name.decode() for key in keys for name in auth_context.get(key, ())]
        if found:
            return found
    return []
