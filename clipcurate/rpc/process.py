"""How the process of a service begins."""

from collections.abc import Callable

from clipcurate.rpc import logs, tracing


def run_service(name: str, main: Callable[[], None]) -> None:
    """Run a service's process to its end; what ends it early is its last line of log.

    An error that `main` raises ends the process with status 1.
    """
    logs.begin(name)
    tracing.start(name)
    main()
