"""Stopping on SIGTERM and SIGINT without a lock inside the signal handler."""

import signal
import threading
from queue import SimpleQueue


def stop_on_signals(stopping: threading.Event) -> None:
    """Set `stopping` at SIGTERM or SIGINT, however many arrive and whenever. Main thread only.

    A handler runs between any two instructions of the main thread. Were it to set the event itself,
    it could wait forever for a lock that the interrupted code holds; a SimpleQueue's put cannot.
    """
    arrived: SimpleQueue[int] = SimpleQueue()

    def follow() -> None:
        arrived.get()
        stopping.set()

    threading.Thread(target=follow, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: arrived.put(number))
