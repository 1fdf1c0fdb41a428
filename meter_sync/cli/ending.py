"""A signal ends a command cleanly; however it ends, what it promised is printed, and its exit code says how it went."""

import asyncio
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import click

from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import Interrupted, MeterSyncError
from meter_sync.net.stop import Stop

T = TypeVar("T")

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Words:
    """What a command says of an end that nobody wished for."""

    cut_off: str
    """What was cut off by a second signal…"""
    then: str
    """… and what to do then."""
    after_a_bug: str
    """What holds although the program itself failed…"""
    report: str
    """… and what to do then."""
    not_printed: str
    """What holds, or is to be done, where the results could not be printed."""


@contextlib.contextmanager
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


def carried_out(work: Callable[[], T], failed: Callable[[MeterSyncError], T], words: Words) -> T:
    """Return what the work does, or what says that it failed: whatever goes wrong becomes part of what is printed."""
    try:
        return work()
    except MeterSyncError as error:
        return failed(error)
    except KeyboardInterrupt:
        return failed(Interrupted(f"{words.cut_off} was cut off by a second signal", words.then))
    except Exception as error:
        # A bug must not cost the caller the document that was promised on every exit path.
        traceback.print_exc()
        said = f"meter-sync itself failed with {type(error).__name__}; {words.after_a_bug}"
        return failed(MeterSyncError(said, words.report, code="internal"))


def exit_with(code: ExitCode, print_results: Callable[[], None], words: Words) -> NoReturn:
    """Print results and exit with a code: where only the printing failed, with that of a failure."""
    try:
        print_results()
        sys.stdout.flush()
    except OSError as error:
        # Python must not try to write it once more at its exit.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the end)
        with contextlib.suppress(OSError):
            said = f"meter-sync: the results could not be printed: {error.strerror}; {words.not_printed}"
            click.echo(said, err=True)
        code = code or ExitCode.FAILED
    sys.exit(code)
