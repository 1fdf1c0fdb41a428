"""How exactly three months are billed, by this program and in other ways, while things go wrong.

    python benchmarks/accuracy.py [--quick] [--customers 200] [--days 92] [--seed 1] [--faults all] [--ways WAY ...]
                                  [--changing]
                                  [--jobs 2] [--markdown]

Every way reports the same customers, who use the same at the same seconds and meet the same faults, to this project's
sandbox over real HTTP, every hour by a clock that is moved. Hours in which nothing has happened are left out, for all
alike. What was used is counted from what was drawn, and what was billed is read off the final invoices.

`--faults` takes kinds of faults, each for a table of its own; `all` is all of them together, `none` is none, and
`each` is a table for none, one for every kind, and one for all. What the kinds are is printed with them.

This program is played twice: as it is by default, and with `late_usage = "carry"`. Exits 1 if it left, either way, a
unit neither billed nor named, in a period or over all, or named one that it should have carried.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from three_months.bills import Account, Accuracy, Bill
from three_months.play import CARRYING, OWN_WAYS, WAYS, Play
from three_months.scenario import DAYS, draw, draw_changing
from three_months.troubles import TROUBLES, Trouble, draw_troubles

from meter_sync.cli.globals import Globals

QUICK_CUSTOMERS = 20
SINGLE = ("none", *TROUBLES, "all")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table."""

    name: str
    width: int
    cell: Callable[[Accuracy], str]


COLUMNS = (
    Column("way", -21, lambda found: found.way),
    Column("billed / used", 13, lambda found: f"{found.billed_percent:.3f} %"),
    Column("customers wrong", 15, lambda found: f"{found.customers_billed_wrongly:,}"),
    Column("units over", 13, lambda found: f"{found.over:,}"),
    Column("units under", 11, lambda found: f"{found.under:,}"),
    Column("carried", 8, lambda found: f"{found.carried:,}"),
    Column("named", 7, lambda found: f"{found.named:,}"),
    Column("unexplained", 13, lambda found: f"{found.unexplained:,}"),
)


def main() -> int:
    """Print a table for each choice of faults; return 1 if this program left anything unexplained."""
    asked = _arguments()
    is_exact = True
    who = asked.seed, asked.customers, asked.days, asked.changing
    tasks = [(*who, faults, way) for faults in asked.faults for way in asked.ways]
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        found = pool.map(accuracy, *zip(*tasks, strict=True))
        for faults in asked.faults:
            customers = f"{asked.customers} customers{' who all change' if asked.changing else ''}"
            print(f"{_title(faults)}: {customers}, {asked.days} days, seed {asked.seed}\n")
            print("\n".join(_heading(markdown=asked.markdown)))
            for _ in asked.ways:
                one = next(found)
                print(_row([column.cell(one) for column in COLUMNS], markdown=asked.markdown), flush=True)
                is_exact &= is_explained(one)
            print()
    return 0 if is_exact else 1


def accuracy(seed: int, customers: int, days: int, is_changing: bool, faults: str, way: str) -> Accuracy:
    """Let the three months happen to so many customers for one way of reporting, and return what came of it."""
    Globals(log_format="console", log_level="critical").start_logging()
    scenario = (draw_changing if is_changing else draw)(seed, customers, days)
    troubles = draw_troubles(seed, scenario, _kinds(faults))
    with tempfile.TemporaryDirectory() as folder:
        return Play(scenario, troubles, way, Path(folder)).accuracy()


def _kinds(faults: str) -> Collection[Trouble]:
    return [kind for kind in TROUBLES if faults in ("all", kind)]


def _title(faults: str) -> str:
    return {"none": "No faults", "all": "All kinds of faults"}.get(faults, f"Faults of the kind {faults!r}")


def is_explained(found: Accuracy) -> bool:
    """Whether all is billed exactly, carried or named; if this program did not, print where it is wrong."""
    if found.way not in OWN_WAYS:
        return True
    wrong: list[Bill | Account] = [bill for bill in found.bills if bill.unexplained]
    wrong += [account for account in found.accounts if account.unexplained]
    if found.way == CARRYING:
        wrong += [bill for bill in found.bills if bill.named and bill.is_followed]
    for one in wrong:
        print(f"  unexplained: {one}", file=sys.stderr)
    return not wrong


# -- the table --------------------------------------------------------------------------------------


def _heading(*, markdown: bool) -> list[str]:
    names = [_row([column.name for column in COLUMNS], markdown=markdown)]
    rule = ["---" if column.width < 0 else "---:" for column in COLUMNS]
    return [*names, _row(rule, markdown=True)] if markdown else names


def _row(cells: Sequence[str], *, markdown: bool) -> str:
    if markdown:
        return f"| {' | '.join(cells)} |"
    padded = (
        f"{cell:<{-column.width}}" if column.width < 0 else f"{cell:>{column.width}}"
        for cell, column in zip(cells, COLUMNS, strict=True)
    )
    return " ".join(padded).rstrip()


# -- arguments --------------------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    kinds = "\n".join(f"  {kind:9} {what}" for kind, what in TROUBLES.items())
    parser = argparse.ArgumentParser(
        description="How exactly three months are billed while things go wrong.",
        epilog=f"kinds of faults:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--customers", type=int, default=200)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn")
    parser.add_argument("--faults", nargs="+", choices=(*SINGLE, "each"), default=["all"], metavar="KIND")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, metavar="WAY")
    parser.add_argument("--jobs", type=int, default=2, help="ways that are played at once, each in a process")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    parser.add_argument("--changing", action="store_true", help="prices, items and subscriptions change in mid-period")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CUSTOMERS} customers: a minute")
    asked = parser.parse_args()
    if asked.quick:
        asked.customers = QUICK_CUSTOMERS
    if "each" in asked.faults:
        asked.faults = list(SINGLE)
    return asked


if __name__ == "__main__":
    sys.exit(main())
