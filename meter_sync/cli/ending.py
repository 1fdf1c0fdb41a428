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

from meter_sync.cli.streams import are_events, is_unread, what_was_lost, write_event
from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import RUN_NOTE, Interrupted, MeterSyncError, run_of
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
        return failed(told_of_bug(error, words))


def told_of_bug(error: Exception, words: Words) -> MeterSyncError:
    """Print the traceback of what is being handled, which nobody foresaw, and return what is to be said of it."""
    run = run_of(error)
    said = f"meter-sync itself failed with {type(error).__name__}; {words.after_a_bug}"
    if are_events():
        write_event("crash", "error", message=said, traceback=traceback.format_exc(), run_id=run)
    else:
        traceback.print_exc()
    bug = MeterSyncError(said, words.report, code="internal")
    if run:
        bug.add_note(f"{RUN_NOTE}{run}")
    return bug


@contextlib.contextmanager
def _first_signal_put_off() -> Iterator[None]:
    """Do what is inside to its end, whatever asks for it: it is the end already. A second signal ends the process."""
    usual = {ending: signal.getsignal(ending) or signal.SIG_DFL for ending in _ENDING}
    heard = list[int]()

    def put_off(number: int, _frame: object) -> None:
        if heard:
            as_usual()
            signal.raise_signal(number)
        heard.append(number)

    def as_usual() -> None:
        for ending, how in usual.items():
            signal.signal(ending, how)

    for ending, how in usual.items():
        if how is not signal.SIG_IGN:
            signal.signal(ending, put_off)
    try:
        yield
    finally:
        as_usual()


def exit_with(
    code: ExitCode,
    print_results: Callable[[], None],
    not_printed: str,
    afterwards: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Print results and exit with a code: where they could not be printed, with that of a failure at least.

    `not_printed` says what holds then all the same, or what to do; `afterwards` is done last, and changes nothing.
    A signal that comes while they are printed cuts nothing off.
    """
    with _first_signal_put_off():
        print_results()
        lost = what_was_lost("stdout")
    if lost:
        code = code or ExitCode.FAILED
        said = f"the results could not be printed: {lost.strerror}; {not_printed}"
        if is_unread(lost):
            pass  # as `head` ends: whoever reads knows
        elif are_events():
            write_event("error", "error", code="not_printed", message=said)
        else:
            click.echo(f"meter-sync: {said}", err=True)
    for ending in (signal.SIGTERM, signal.SIGHUP):  # all is done and said: the code stays, however soon it is to end
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, lambda *_: os._exit(code))
    afterwards()
    sys.exit(code)
