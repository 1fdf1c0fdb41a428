"""The file for Prometheus: what it says after runs of every end, and that nobody's name is in it."""

import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from meter_sync import __version__
from meter_sync.core.outcomes import Reason
from meter_sync.monitor.metrics import METRICS, PREFIX
from meter_sync.sandbox.http.faults import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.world import METER, Outcome, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AWAY = "http://127.0.0.1:9"
Labels = tuple[tuple[str, str], ...]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A sandbox in which it is now, as it is for the command."""
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0))
    world.configure(f'[monitor]\ntextfile = "{textfile(world)}"\n')
    with world.sandbox.in_background():
        yield world


def textfile(world: World) -> Path:
    return world.folder / "meter_sync.prom"


def run(world: World, *arguments: str, **overrides: str) -> Outcome:
    return world.meter_sync("run", "--output", "json", *arguments, **overrides)


def subscribed(world: World) -> SubscriptionView:
    """Subscribe a customer since five days ago, who used 100."""
    subscription = world.subscribe(period_start=world.now - 5 * DAY)
    world.use(subscription, 100, at=world.now - DAY)
    return subscription


def let_it_be_earlier(world: World, by: timedelta) -> None:
    with closing(sqlite3.connect(world.ledger)) as connection, connection:
        connection.execute("UPDATE runs SET started_at = started_at - ?", (int(by.total_seconds()),))
        connection.execute("UPDATE holds SET last_at = last_at - ?", (int(by.total_seconds()),))


def samples(world: World) -> dict[str, dict[Labels, float]]:
    """What the file says, by the names of the metrics without their prefix."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(textfile(world).read_text("utf-8")):
        for one in family.samples:
            assert one.name.startswith(PREFIX)
            found.setdefault(one.name.removeprefix(PREFIX), {})[tuple(sorted(one.labels.items()))] = one.value
    return found


def value(found: Mapping[str, Mapping[Labels, float]], name: str) -> float:
    """The value of a metric without labels."""
    return found[name][()]


def items(found: Mapping[str, Mapping[Labels, float]]) -> dict[str, float]:
    """The counts of items, each by its outcome, reason and meter."""
    return {
        " ".join(filter(None, (labels["outcome"], labels["reason"], labels["meter"]))): count
        for labels, count in ((dict(pairs), count) for pairs, count in found["items"].items())
    }


def test_after_a_good_run_it_says_all_that_is_known(world: World) -> None:
    subscribed(world)
    world.subscribe(period_start=world.now - 5 * DAY)

    done = run(world)

    found = samples(world)
    began = datetime.fromisoformat(done.document["run"]["started_at"]).timestamp()
    assert done.code == 0
    assert items(found) == {f"reported {METER}": 1, f"unchanged {METER}": 1}
    assert value(found, "run_exit_code") == 0
    assert value(found, "run_last_complete_timestamp_seconds") == began
    assert value(found, "usage_as_of_timestamp_seconds") == began
    assert began <= value(found, "run_last_timestamp_seconds") < began + 60
    assert 0 < value(found, "run_duration_seconds") < 60
    assert value(found, "schedule_interval_seconds") == 3600
    assert value(found, "periods_due_unreported") == 0
    assert value(found, "next_period_end_timestamp_seconds") > began
    assert found["build_info"] == {(("version", __version__),): 1}
    assert not found.keys() & {"held_oldest_timestamp_seconds", "unbilled_units", "unbilled_periods"}
    assert sum(found["requests_total"].values()) == sum(
        done.document["summary"][f"{api}_requests"] for api in ("stripe", "openmeter")
    )
    assert {
        one: count for one, count in found["requests_total"].items() if ("endpoint", "post usage_records") in one
    } == {(("api", "stripe"), ("code", "200"), ("endpoint", "post usage_records")): 1}
    assert found["rate_limited_total"] == {(("api", "openmeter"),): 0, (("api", "stripe"),): 0}


def test_a_failed_run_leaves_what_only_a_complete_one_knows_and_counters_go_on(world: World) -> None:
    subscribed(world)
    run(world)
    before = samples(world)

    assert run(world, OPENMETER_URL=AWAY).code == 75
    assert run(world, STRIPE_API_KEY="sk_test_wrong").code == 78
    assert run(world, STRIPE_API_KEY="pk_test_publishable").code == 78

    found = samples(world)
    assert value(found, "run_exit_code") == 78
    assert value(found, "run_last_timestamp_seconds") >= value(before, "run_last_timestamp_seconds")
    kept = {"items", "run_duration_seconds", "run_last_complete_timestamp_seconds", "next_period_end_timestamp_seconds"}
    assert {name: found[name] for name in kept} == {name: before[name] for name in kept}
    assert all(found["requests_total"][one] >= count for one, count in before["requests_total"].items())
    # The run with a wrong key has asked OpenMeter meanwhile, and did not wait for the answer.
    assert found["requests_total"][(("api", "openmeter"), ("code", "none"), ("endpoint", "get meters"))] >= 1
    assert found["requests_total"][(("api", "stripe"), ("code", "401"), ("endpoint", "get account"))] == 1


def test_a_partial_run_is_a_complete_one_and_says_what_failed_and_since_when(world: World) -> None:
    subscribed(world)
    refused = subscribed(world)
    path = f"/v1/subscription_items/{refused.items[0]}/usage_records"
    world.sandbox.faults.add(Fault(server="stripe", path=path, status=400, times=None))

    done = run(world)

    found = samples(world)
    began = datetime.fromisoformat(done.document["run"]["started_at"]).timestamp()
    assert (done.code, value(found, "run_exit_code")) == (3, 3)
    assert items(found) == {f"reported {METER}": 1, f"failed stripe_error {METER}": 1}
    assert value(found, "run_last_complete_timestamp_seconds") == began
    assert began <= value(found, "held_oldest_timestamp_seconds") < began + 60

    world.sandbox.faults.clear()
    let_it_be_earlier(world, HOUR)
    assert run(world).code == 0
    assert "held_oldest_timestamp_seconds" not in samples(world)


def test_what_was_rate_limited_is_counted(world: World) -> None:
    subscribed(world)
    limited = {"Stripe-Rate-Limited-Reason": "endpoint-rate"}
    world.sandbox.faults.add(Fault(server="stripe", path="/usage_records$", status=429, headers=limited))

    assert run(world, METER_SYNC_RETRY_SECONDS="5").code == 0

    found = samples(world)
    assert found["rate_limited_total"][(("api", "stripe"),)] == 1
    assert found["requests_total"][(("api", "stripe"), ("code", "429"), ("endpoint", "post usage_records"))] == 1


def test_what_is_unbilled_is_counted_by_meter_until_it_is_settled(world: World) -> None:
    subscription = subscribed(world)
    world.execute()
    world.use(subscription, 7, at=world.now - HOUR)
    world.stripe.cancel(subscription.id)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    run(world)
    found = samples(world)
    meter = (("meter", METER),)
    (one,) = world.meter_sync("status", "--output", "json").document["unbilled"]
    assert int(one["unbilled"]) > 0
    assert (found["unbilled_units"][meter], found["unbilled_periods"][meter]) == (int(one["unbilled"]), 1)

    world.meter_sync("history", "--settle", *subscription.items, one["period"]["start"], "--note", "by hand")
    run(world)
    assert not samples(world).keys() & {"unbilled_units", "unbilled_periods"}


def test_no_label_names_anybody(world: World) -> None:
    """Whatever becomes of items: reported, held, skipped, failed, on a meter that is named by anything."""
    named = world.stripe.add_price(metadata={"om_meter_id": "cus_as_a_meter"})
    subscriptions = [subscribed(world), subscribed(world), world.subscribe(named), world.subscribe(world.price, named)]
    world.execute()
    world.use(subscriptions[0], -60, at=world.now - HOUR)
    world.sandbox.clock.advance(timedelta(minutes=1))
    world.stripe.cancel(subscriptions[1].id)
    run(world)
    text = textfile(world).read_text()
    known = [
        *(one.id for one in subscriptions),
        *(item for one in subscriptions for item in one.items),
        *(world.customer_of(one) for one in subscriptions),
        *(world.price, named, str(world.ledger)),
    ]
    assert [name for name in known if name in text] == []
    assert "cus_" not in text
    found = samples(world)
    assert found.keys() <= {metric.name for metric in METRICS}
    assert {label for series in found.values() for labels in series for label, _ in labels} <= {
        "api", "code", "endpoint", "meter", "outcome", "reason", "version",
    }  # fmt: skip
    assert sum(items(found).values()) == 4
    assert f"held {Reason.DECREASE} {METER}" in items(found)


@pytest.mark.parametrize(
    "text",
    ["", "meter_sync_requests_total{api=\n", "\x00\xff", 'meter_sync_items{outcome="reported"} NaN\n', "other 1\n"],
)
def test_a_file_that_is_damaged_or_another_one_begins_anew(world: World, text: str) -> None:
    subscribed(world)
    textfile(world).write_text(text, encoding="latin-1")

    done = run(world)

    assert (done.code, done.stderr) == (0, "")
    assert items(samples(world)) == {f"reported {METER}": 1}
    assert "other" not in textfile(world).read_text()


def test_who_collects_may_read_it_whatever_the_umask_and_finds_it_whole(world: World) -> None:
    before = os.umask(0o077)
    try:
        world.installed_meter_sync("run")
    finally:
        os.umask(before)

    assert stat.S_IMODE(textfile(world).stat().st_mode) == 0o644
    textfile(world).chmod(0o444)
    assert run(world).stderr == ""
    assert sorted(path.name for path in world.folder.iterdir() if "prom" in path.name) == ["meter_sync.prom"]


@pytest.mark.parametrize("place", ["/proc/meter_sync.prom", "missing/meter_sync.prom", "folder.prom"])
def test_where_it_cannot_be_written_the_run_is_as_ever_and_says_so(world: World, place: str) -> None:
    subscribed(world)
    world.folder.joinpath("folder.prom", "not-empty").mkdir(parents=True)
    world.configure(f'[monitor]\ntextfile = "{place}"\n')

    done = run(world)

    assert (done.code, done.document["summary"]["exit_code"]) == (0, 0)
    (warning,) = done.stderr.splitlines()
    assert '"event": "monitor_failed"' in warning
    assert f"{place} cannot be written: " in warning


def test_only_full_runs_write_it(world: World) -> None:
    subscription = subscribed(world)
    for arguments in (("-n",), ("--customer", world.customer_of(subscription)), ("--closing", "3m")):
        run(world, *arguments)

    assert not textfile(world).exists()
