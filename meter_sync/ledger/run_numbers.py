"""The numbers of runs, by which packed rows name them: an id never repeats, and would be most of what is packed."""

from collections.abc import Collection

import sqlalchemy as sa

from meter_sync.ledger.database import Database
from meter_sync.ledger.packing import RunNames
from meter_sync.ledger.schema import run_numbers


def numbers_of(database: Database, runs: Collection[str]) -> dict[str, int]:
    """Return the numbers of runs, within a transaction: new ones for those that have none yet."""
    known = _known(database, runs)
    new = sorted(set(runs) - known.keys())
    if new:
        last = database.value(database.of(run_numbers, sa.func.max(run_numbers.c.number))) or 0
        given = dict(zip(new, range(last + 1, last + 1 + len(new)), strict=True))
        database.insert(run_numbers, [{"run": run, "number": number} for run, number in given.items()])
        known |= given
    return known


def _known(database: Database, runs: Collection[str]) -> dict[str, int]:
    query = database.of(run_numbers, "run", "number")
    return {row.run: row.number for row in database.rows_of(query, run_numbers.c.run, runs)}


def names(database: Database) -> RunNames:
    """Return the runs by their numbers."""
    query = database.of(run_numbers, "run", "number")
    return RunNames(lambda: {row.number: row.run for row in database.rows(query)})
