"""What is measured against: an account of a given size, served by the sandbox in a process of its own.

Only the standard library is imported here, so that the measuring process stays small: a child's
peak memory, as the kernel counts it, is never below that of the process it was forked from.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STRIPE_READ_SECONDS = 0.250
STRIPE_WRITE_SECONDS = 0.120
OPENMETER_QUERY_SECONDS = 0.040

STRIPE_OVERALL_RATE = 100
STRIPE_ENDPOINT_RATE = 25
"""Stripe's defaults in live mode, in requests per second (Stripe documentation, Rate limits)."""

NO_LIMIT = 1_000_000
"""Requests per second that are never reached."""

SERVER = Path(__file__).with_name("serve.py")


@dataclass(frozen=True, slots=True)
class Scenario:
    """An account: one customer, subscription and metered item each, all with usage."""

    items: int
    period_starts: int
    """Over how many distinct seconds the items' billing periods start."""
    limited: bool = False
    """Whether Stripe's default rate limits are enforced."""
    latency: bool = True
    """Whether the servers take their time."""
    meter_event_rate: int | None = None
    """Where set, the price is on an hourly billing meter, and Stripe takes so many meter events per second."""
    streams: bool = False
    """Whether many events at once may go by the hundred; else each is a request."""
    ending: int = 0
    """So many more items have periods of a week that end within the hour."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The requests that one run has caused, by kind."""

    stripe_lists: int
    stripe_summaries: int
    """Reads of what Stripe holds for one item or customer."""
    stripe_posts: int
    openmeter_queries: int
    refused: int
    """Answered 429; counted under their kind too."""
    total: int
    post_rate: float
    """Accepted POSTs per second, from the arrival of the first to that of the last; 0 below two."""


class Account:
    """A scenario that is being served, and what can be asked of it from outside."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.environment: Mapping[str, str] = self._answer()
        """The variables that point a program at the sandbox."""

    def use(self) -> None:
        """Let every item have new usage."""
        self._ask("use")

    def use_some(self) -> int:
        """Let one item in a hundred have new usage, and return in how many windows of theirs."""
        return int(self._ask("use_some"))

    def use_ending(self) -> None:
        """Let every item whose period is about to end have new usage."""
        self._ask("use_ending")

    def written(self) -> int:
        """Return how many POSTs there were since the last time that the traffic was asked for."""
        return int(self._ask("written"))

    def use_now(self) -> None:
        """Let every item have usage of the second before."""
        self._ask("use_now")

    def use_one_in_100_now(self) -> None:
        """Let one item in a hundred have usage of the second before."""
        self._ask("use_one_in_100_now")

    def use_one_in_100_late(self) -> None:
        """Let one item in a hundred have usage of days ago, older than what hourly runs are said to look back to."""
        self._ask("use_one_in_100_late")

    def begin_one_in_100(self) -> int:
        """Add an item with usage for every hundred that there are, of periods that have just begun; return how many."""
        return int(self._ask("begin_one_in_100"))

    def limit(self, limited: bool) -> None:
        """Have Stripe's default rate limits hold from now on, or none."""
        self._ask("limit" if limited else "limit_not")

    def traffic(self) -> Traffic:
        """Return what has been requested since the last time this was asked."""
        return Traffic(**self._ask("traffic"))

    def wrong_items(self) -> int:
        """Return how many items Stripe holds another total for than OpenMeter has metered."""
        return int(self._ask("wrong_items"))

    def _ask(self, command: str) -> Any:
        if self._process.stdin is None:
            raise AssertionError("the sandbox was started with a pipe")
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        if self._process.stdout is None:
            raise AssertionError("the sandbox was started with a pipe")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the sandbox has ended; its traceback is above")
        return json.loads(line)


@contextmanager
def served(scenario: Scenario) -> Iterator[Account]:
    """Serve a scenario in another process, so that its CPU time is not the measured program's."""
    command = [sys.executable, str(SERVER), json.dumps(asdict(scenario))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Account(process)
        finally:
            process.terminate()
