"""How work and memory grow with what there is: counted in steps and bytes, since no two clocks agree."""

import sqlite3
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import sqlalchemy as sa

import meter_sync

_PROGRAM = str(Path(meter_sync.__file__).parent)


def steps_of(work: Callable[[], object], within: str = _PROGRAM) -> int:
    """Do some work, and return how many bytecodes of the program, or of files whose path ends so, it took."""
    steps = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal steps
        steps += event == "opcode"
        return count

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not (name.startswith(within) or name.endswith(within)):
            return None
        frame.f_trace_opcodes = True
        return count

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps


def database_steps_of(connection: sa.Connection, work: Callable[[], object]) -> int:
    """Do some work, and return how many instructions of SQLite's virtual machine it took, to the next hundred."""
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    hundreds = 0

    def count() -> int:
        nonlocal hundreds
        hundreds += 1
        return 0

    driver.set_progress_handler(count, 100)
    try:
        work()
    finally:
        driver.set_progress_handler(None, 0)
    return hundreds * 100


def kept_bytes(make: Callable[[], object]) -> int:
    """Return how much memory what is made takes as long as it is kept."""
    make()  # what is made once, whatever there is
    tracemalloc.start()
    try:
        kept = make()
        return tracemalloc.get_traced_memory()[0] if kept else 0
    finally:
        tracemalloc.stop()
