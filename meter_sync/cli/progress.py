"""Progress on stderr, on a terminal only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from meter_sync.cli.globals import Globals

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.progress import Progress as Bars

    from meter_sync.sync.progress import Progress


@contextmanager
def progress(options: Globals) -> Iterator["Progress | None"]:
    """Yield what shows progress, or nothing where nobody watches."""
    with _bars(options) as bars:
        yield None if bars is None else _Shown(bars)


@contextmanager
def progress_of_accounts(options: Globals, accounts: int) -> Iterator["ProgressOfAccounts"]:
    """Yield what shows how many of so many accounts are done, and how far those are that are under way."""
    with _bars(options) as bars:
        yield ProgressOfAccounts(bars, accounts)


@contextmanager
def _bars(options: Globals) -> Iterator["Bars | None"]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as bars_of

    columns = (
        bars_of.TextColumn("{task.description:>9}"),
        bars_of.BarColumn(),
        bars_of.MofNCompleteColumn(),
        bars_of.TimeRemainingColumn(),
    )
    with bars_of.Progress(*columns, console=options.console(stderr=True), transient=True) as bars:
        yield bars


class _Shown:
    def __init__(self, bars: "Bars") -> None:
        self._bars = bars

    def begin(self, step: str, total: int | None) -> None:
        for done in self._bars.task_ids:
            self._bars.remove_task(done)
        self._bars.add_task(step, total=total)

    def advance(self) -> None:
        for under_way in self._bars.task_ids:
            self._bars.advance(under_way)


class ProgressOfAccounts:
    """Two bars: the accounts that are done, of all, and what is done of the steps that others are at."""

    def __init__(self, bars: "Bars | None", accounts: int) -> None:
        self._bars = bars
        self._steps: list[_Step] = []
        if bars is not None:
            self._accounts = bars.add_task("accounts", total=accounts)
            self._under_way = bars.add_task("under way", total=0, visible=False)

    def done(self) -> None:
        """An account is done, however it ended."""
        if self._bars is not None:
            self._bars.advance(self._accounts)

    def of_one(self) -> "AbstractContextManager[Progress | None]":
        """Return what shows the progress of an account while it is under way."""
        return nullcontext() if self._bars is None else self._beside()

    @contextmanager
    def _beside(self) -> Iterator["Progress"]:
        step = _Step(self)
        self._steps.append(step)
        try:
            yield step
        finally:
            self._steps.remove(step)
            self.show()

    def show(self) -> None:
        """Show how far the accounts are that are under way: all in all, as far as it is known how much there is."""
        if self._bars is not None:
            known = [(step.done, step.total) for step in self._steps if step.total is not None]
            done, total = sum(done for done, _ in known), sum(total for _, total in known)
            self._bars.update(self._under_way, total=total, completed=done, visible=bool(known))


class _Step:
    """The step that an account is at."""

    def __init__(self, shown: ProgressOfAccounts) -> None:
        self._shown = shown
        self.total: int | None = None
        self.done = 0

    def begin(self, step: str, total: int | None) -> None:
        self.total, self.done = total, 0
        self._shown.show()

    def advance(self) -> None:
        self.done += 1
        self._shown.show()
