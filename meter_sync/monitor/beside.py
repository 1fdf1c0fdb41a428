"""Something that is done beside the rest, and given up where it takes too long."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from meter_sync.monitor.ended import MonitorFailed

T = TypeVar("T")

READ_SECONDS = 2.0
"""So long the ledger is waited for, which another program may have locked; then what it says is not known."""


class Beside(Generic[T]):
    """Work in a thread of its own, which ends with the process: what hangs in it keeps nobody."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._done: list[T] = []
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._carry_out, daemon=True)
        self._thread.start()

    def result(self, until: float) -> T:
        """Wait for its end, until an instant of the monotonic clock, and return what it has found.

        Raise what it raised, or MonitorFailed for what has not ended.
        """
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._failed:
            raise self._failed
        if not self._done:
            raise MonitorFailed("it took too long, and was given up")
        return self._done[0]

    def _carry_out(self) -> None:
        try:
            self._done.append(self._work())
        except Exception as error:
            self._failed = error
