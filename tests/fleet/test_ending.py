"""A worker's process ends in time, whatever of it hangs."""

import subprocess
import sys

import pytest

THREAD = "threading.Thread(target=threading.Event().wait).start()"
EXECUTOR = "asyncio.run(abandoned())"
LOG = "sys.stderr.write('x' * 1_000_000)"

_PROGRAM = """
import asyncio
import sys
import threading

from meter_sync.core.outcomes import ExitCode
from meter_sync.fleet.ending import Ending

for_ever = threading.Event()
living = set()


async def abandoned():
    asyncio.get_running_loop().run_in_executor(None, for_ever.wait)


"""


def started(program: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", f"{_PROGRAM}{program}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("hangs", [THREAD, EXECUTOR, LOG])
def test_a_process_ends_though_a_thread_lives_on_or_nobody_reads_its_log(hangs: str) -> None:
    """Its log is not read before its end, and is full where a million characters were written to it."""
    with started(f"Ending(living, 0.1).begin(ExitCode.FAILED)\n{hangs}") as process:
        try:
            assert process.wait(30) == 1
        finally:
            process.kill()


def test_a_run_that_has_not_ended_is_waited_for() -> None:
    program = """
living.add(1)
Ending(living, 0.01).begin(ExitCode.DONE)
for_ever.wait(0.3)
print("still there", flush=True)
living.clear()
for_ever.wait()
"""
    with started(program) as process:
        try:
            stdout, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert stdout.startswith("still there\n")
