"""Runs of many accounts: what is kept of those that are done, and how far all are."""

import io

from rich.console import Console
from rich.progress import Progress

from meter_sync.cli.progress import ProgressOfAccounts
from meter_sync.cli.run_kept import Kept
from meter_sync.cli.run_results import item, summary
from meter_sync.core.outcomes import ExitCode, Outcome
from meter_sync.monitor.ended import Ended
from meter_sync.monitor.metrics import after
from meter_sync.sync.request import Execution, Request, RunReport, run_record
from tests.support.growth import kept_bytes
from tests.support.world import World


def execution(world: World, times: int = 1) -> Execution:
    """A run of which two items were reported, again and again, and one waits for somebody."""
    for number in range(2):
        world.use(world.subscribe(), 5 + number)
    world.subscribe(world.stripe.add_price())  # which no meter is for
    results = [*world.execute().values()]
    assert {one.outcome for one in results} == {Outcome.REPORTED, Outcome.SKIPPED}
    return Execution(run_record(Request(), "hourly", world.now), RunReport(results * times), world.now)


def test_what_is_kept_of_a_run_says_all_that_the_run_does(world: World) -> None:
    whole, kept = execution(world), Kept(keeps_rows=True)

    left = kept.keep("eu", whole)

    rows = kept.rows_of(["us", "eu"])
    assert (len(rows), [*rows]) == (3, [item("eu", one) for one in whole.report.results])
    assert [one.outcome for one in left.report.results] == [Outcome.SKIPPED]
    assert summary(left, dry_run=False) == summary(whole, dry_run=False)
    assert summary(left, dry_run=True) == summary(whole, dry_run=True)
    assert (left.report.exit_code, left.report.counts) == (ExitCode.ATTENTION, whole.report.counts)
    told = [after(Ended(one, "", None), {})["items"] for one in (left, whole)]
    assert (told[0], sum(told[0].values())) == (told[1], 3)


def test_what_is_kept_of_an_item_that_is_well_is_hardly_anything(world: World) -> None:
    whole = execution(world, times=400)
    well = [one for one in whole.report.results if one.outcome is Outcome.REPORTED]
    run = Execution(whole.run, RunReport(well), world.now)

    def of(*, keeps_rows: bool) -> float:
        return kept_bytes(lambda: (kept := Kept(keeps_rows=keeps_rows), kept.keep("eu", run))) / len(well)

    assert of(keeps_rows=True) < 100
    assert of(keeps_rows=False) < 10


def test_the_bars_are_of_all_accounts_and_of_the_steps_that_some_are_at() -> None:
    with Progress(console=Console(file=io.StringIO())) as bars:
        shown = ProgressOfAccounts(bars, 3)
        accounts, under_way = bars.tasks
        with shown.of_one() as eu, shown.of_one() as us:
            assert eu is not None
            assert us is not None
            eu.begin("list", None)
            us.begin("query", 10)
            assert (under_way.total, under_way.completed, under_way.visible) == (10, 0, True)
            eu.begin("query", 5)
            eu.advance()
            us.advance()
            assert (under_way.total, under_way.completed) == (15, 2)
            shown.done()
        assert (under_way.visible, accounts.completed, accounts.total) == (False, 1, 3)
