"""What was measured, and how it is shown: runs as rows of a table, goals as met or missed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from measure import Cost
from scenario import Scenario, Traffic


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    scenario: Scenario
    kind: str
    cost: Cost
    traffic: Traffic
    program: str = "meter-sync"
    changed_windows: int = 0
    """How many of the customers' windows had new usage since the run before, where that was counted."""
    wrong_items: int = 0
    """For how many items Stripe then held another total than OpenMeter had metered."""
    naive_seconds: float | None = None
    """What the naive algorithm takes for as many items, if it was measured."""

    @property
    def times_faster(self) -> float | None:
        """Wall time of the naive algorithm over this run's."""
        return self.naive_seconds / self.cost.wall_seconds if self.naive_seconds else None


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that was promised, and what was measured."""

    promise: str
    measured: str
    met: bool

    def __str__(self) -> str:
        return f"goal: {self.promise}  measured: {self.measured}  {'met' if self.met else 'MISSED'}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table of runs."""

    name: str
    width: int
    cell: Callable[[Run], str]


PROGRAM = Column("program", 10, lambda run: run.program)
STARTS = Column("starts", 7, lambda run: f"{run.scenario.period_starts:,}")
LIMITS = Column("limits", 6, lambda run: "on" if run.scenario.limited else "off")
KIND = Column("run", 13, lambda run: run.kind)
WALL = Column("wall s", 8, lambda run: f"{run.cost.wall_seconds:.2f}")
LISTS = Column("lists", 6, lambda run: f"{run.traffic.stripe_lists:,}")
SUMMARIES = Column("summ.", 6, lambda run: f"{run.traffic.stripe_summaries:,}")
POSTS = Column("POSTs", 6, lambda run: f"{run.traffic.stripe_posts:,}")
POST_RATE = Column("POST/s", 7, lambda run: f"{run.traffic.post_rate:.1f}" if run.traffic.post_rate else "-")
EVENTS = Column("events", 6, POSTS.cell)
EVENT_RATE = Column("events/s", 8, POST_RATE.cell)
QUERIES = Column("queries", 7, lambda run: f"{run.traffic.openmeter_queries:,}")
REFUSED = Column("429", 5, lambda run: f"{run.traffic.refused:,}")
CPU = Column("CPU s", 7, lambda run: f"{run.cost.cpu_seconds:.2f}")
PEAK = Column("peak MB", 7, lambda run: f"{run.cost.peak_mb:.0f}")
TIMES_NAIVE = Column("x naive", 7, lambda run: f"{run.times_faster:.1f}" if run.times_faster else "-")

RECORDS = (
    PROGRAM, STARTS, LIMITS, KIND, WALL, LISTS, SUMMARIES, POSTS, QUERIES, REFUSED, POST_RATE, CPU, PEAK, TIMES_NAIVE,
)  # fmt: skip
"""Lists: all Stripe GETs but summaries. Summ.: Stripe GETs of what it holds for one item or customer."""

METERS = (KIND, WALL, LISTS, SUMMARIES, EVENTS, QUERIES, REFUSED, EVENT_RATE, CPU, PEAK)
"""The same of one program and account, where all that is POSTed are meter events."""

ITEMS = Column("items", 9, lambda run: f"{run.scenario.items:,}")
LOOKS = Column("looks", 7, SUMMARIES.cell)

SCALE = (
    KIND, ITEMS, LIMITS, WALL, LISTS, LOOKS, Column("POSTs", 7, POSTS.cell), QUERIES, REFUSED, POST_RATE, CPU, PEAK,
)  # fmt: skip
"""Of accounts of several sizes. Looks: Stripe GETs of what it holds for one item."""


def print_header(columns: Sequence[Column]) -> None:
    """Print the names of the columns."""
    print(" ".join(f"{column.name:>{column.width}}" for column in columns), flush=True)


def print_row(run: Run, columns: Sequence[Column]) -> None:
    """Print one run."""
    print(" ".join(f"{column.cell(run):>{column.width}}" for column in columns), flush=True)


def as_markdown(runs: Sequence[Run], columns: Sequence[Column]) -> str:
    """Return runs as a table for the documents."""
    rows = [[column.name for column in columns], ["---:"] * len(columns)]
    rows += [[column.cell(run) for column in columns] for run in runs]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
