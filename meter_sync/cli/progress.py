"""Progress on stderr, on a terminal only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from meter_sync.cli.globals import Globals

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from meter_sync.sync.progress import Progress


@contextmanager
def progress(options: Globals) -> Iterator["Progress | None"]:
    """Yield what shows progress, or nothing where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as bars_of

    columns = (
        bars_of.TextColumn("{task.description:>8}"),
        bars_of.BarColumn(),
        bars_of.MofNCompleteColumn(),
        bars_of.TimeRemainingColumn(),
    )
    with bars_of.Progress(*columns, console=options.console(stderr=True), transient=True) as bars:
        yield _Shown(bars)


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
