"""The end of a worker's process: it comes in time, whatever hangs on the way there.

What may hang is the engine as it stops (procrastinate's issue 1513), a thread that waits for the database, which
`asyncio.run` and the interpreter wait for at the end, or whoever is to read the log. So it is a thread that nobody
waits for that looks after the end, and it goes on until there is no process any more.
"""

import os
import threading
import time
from collections.abc import Collection

import structlog

from meter_sync.core.outcomes import ExitCode

ENDS_WITHIN_SECONDS = 20.0
"""So long after the end was asked for, or after its last run has ended, a worker ends."""
_LOOKS_EACH_SECONDS = 0.5
_LAST_WORD_WITHIN_SECONDS = 1.0

log = structlog.get_logger()


class Ending:
    """Sees to it that this process ends in time, once that has begun."""

    def __init__(self, living: Collection[int], within_seconds: float = ENDS_WITHIN_SECONDS) -> None:
        """Begin with the runs that have not ended, as they are at any moment: they are never left alone."""
        self._living = living
        self._within_seconds = within_seconds
        self._thread = threading.Thread(target=self._end, name="ending", daemon=True)
        self._code = ExitCode.DONE

    def begin(self, code: ExitCode) -> None:
        """Let the process end from now on, with this code where it does not do so by itself.

        Nothing brings it back; where it is begun already, only the code is another one.
        """
        self._code = code
        if self._thread.ident is None:
            self._thread.start()

    def _end(self) -> None:
        alone_since = time.monotonic()
        while time.monotonic() - alone_since < self._within_seconds:
            time.sleep(min(_LOOKS_EACH_SECONDS, self._within_seconds))
            if self._living:
                alone_since = time.monotonic()
        # Where nobody reads the log any more, saying so would wait for ever.
        saying = threading.Thread(target=_say, daemon=True)
        saying.start()
        saying.join(_LAST_WORD_WITHIN_SECONDS)
        os._exit(self._code)


def _say() -> None:
    message = "it did not end by itself in time; no run is under way any more, and nothing is lost"
    log.warning("worker_ended_anyway", message=message)
