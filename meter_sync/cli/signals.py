"""SIGTERM, SIGINT and SIGHUP end a run cleanly."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from meter_sync.net.stop import Stop

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Yield a Stop that the first signal requests; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = Stop()

    def requested() -> None:
        stop.request()
        for ending in heard:
            loop.remove_signal_handler(ending)

    heard = [ending for ending in _ENDING if signal.getsignal(ending) is not signal.SIG_IGN]  # nohup ignores SIGHUP
    for ending in heard:
        loop.add_signal_handler(ending, requested)
    try:
        yield stop
    finally:
        for ending in heard:
            loop.remove_signal_handler(ending)
