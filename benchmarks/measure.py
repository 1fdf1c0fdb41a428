"""Running one process and reading from the kernel what it has cost."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
MB = 1_000_000

_CONFIGURING = ("METER_SYNC_", "STRIPE_", "OPENMETER_")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process has cost."""

    wall_seconds: float
    cpu_seconds: float
    """User and system time of the process itself, not of the servers that it talked to."""
    peak_mb: float
    """The largest resident set, in 10^6 bytes."""


def cost_of(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end and return its cost. Raise RuntimeError unless it exits 0.

    `environment` is added to this process's own, from which whatever else would configure the programs
    is taken. What the command prints is dropped, save its errors.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_CONFIGURING)}
    began = time.perf_counter()
    process = subprocess.Popen(command, env={**inherited, **(environment or {})}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} exited {process.returncode}")
    in_bytes = 1 if sys.platform == "darwin" else KIB
    return Cost(wall_seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * in_bytes / MB)


def installed(command: str) -> str:
    """Return the path of a command that is installed beside this interpreter."""
    path = Path(sys.executable).with_name(command)
    if not path.exists():
        raise RuntimeError(f"{path} is missing: install this project for this interpreter first")
    return str(path)
