"""Running meter-sync over a served account, run after run, and what each run has cost."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import cost_of, installed
from results import Run
from scenario import NO_LIMIT, Account, Scenario, served

WITHOUT_LIMITS = {
    "METER_SYNC_STRIPE_RATE": str(NO_LIMIT),
    "METER_SYNC_STRIPE_ENDPOINT_RATE": str(NO_LIMIT),
}


@dataclass(frozen=True, slots=True)
class Program:
    """A meter-sync that can be run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    """Variables that make this one be run, and not another."""


def this_program() -> Program:
    """Return the command that is installed beside this interpreter. Raise RuntimeError if there is none."""
    return Program("meter-sync", (installed("meter-sync"),), {})


def program_in(tree: Path, name: str) -> Program:
    """Return the program of a tree of files, with this interpreter's packages."""
    # With -P the working directory does not come first: from this repository's, that would be another tree.
    return Program(name, (sys.executable, "-P", "-m", "meter_sync"), {"PYTHONPATH": str(tree)})


class Trial:
    """A program over an account, with a ledger of its own."""

    def __init__(self, scenario: Scenario, account: Account, folder: Path, program: Program) -> None:
        self.account = account
        self._scenario = scenario
        self._folder = folder
        self._program = program

    def run(self, kind: str) -> Run:
        """Run once, and return what it has cost and how many items were left with another total than their usage.

        Raise RuntimeError unless it ends well.
        """
        configuration = _configuration(self._scenario, self._folder)
        environment = {**self.account.environment, **configuration, **self._program.environment}
        cost = cost_of([*self._program.command, "run"], environment)
        traffic, wrong = self.account.traffic(), self.account.wrong_items()
        return Run(self._scenario, kind, cost, traffic, program=self._program.name, wrong_items=wrong)

    def limit(self, limited: bool) -> None:
        """Have Stripe's default rate limits hold from now on, or none."""
        self._scenario = replace(self._scenario, limited=limited)
        self.account.limit(limited)


@contextmanager
def trial(scenario: Scenario, program: Program) -> Iterator[Trial]:
    """Serve a new account, for a program with a new ledger."""
    with TemporaryDirectory() as folder, served(scenario) as account:
        yield Trial(scenario, account, Path(folder), program)


def checked(run: Run) -> Run:
    """Return a run that has left no item wrong: a fast wrong bill counts for nothing. Raise RuntimeError otherwise."""
    if run.wrong_items:
        raise RuntimeError(f"{run.scenario}, {run.kind}: {run.wrong_items} items were left with a wrong total")
    return run


def _configuration(scenario: Scenario, folder: Path) -> dict[str, str]:
    """Return meter-sync's settings: its defaults, but for limits that a scenario does not have."""
    config = folder / "meter-sync.toml"
    config.touch()
    settings = {
        "METER_SYNC_CONFIG": str(config),
        "METER_SYNC_LEDGER": str(folder / "ledger.sqlite3"),
    }
    if scenario.meter_event_rate is not None:
        settings["METER_SYNC_STRIPE_METER_EVENT_RATE"] = str(scenario.meter_event_rate)
        # Only here: an earlier revision, which has no such setting, is run over usage records.
        settings["METER_SYNC_STRIPE_METER_EVENT_STREAM"] = "auto" if scenario.streams else "never"
    return settings if scenario.limited else {**settings, **WITHOUT_LIMITS}
