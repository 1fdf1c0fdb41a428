"""`meter-sync doctor` names what would keep runs from working or usage from being billed, each with its remedy."""

import csv
import io
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meter_sync.ledger import Scope, open_ledger, run_lock
from meter_sync.sandbox.http.faults import Fault
from meter_sync.sandbox.stripe.protocol.permissions import EVERY_PERMISSION
from meter_sync.sandbox.stripe.world import SubscriptionView
from meter_sync.sync.request import Request, run_record
from meter_sync.webhook.events import SNAPSHOTS, THIN
from tests.support.listening import listening
from tests.support.world import METER, Outcome, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BUT_SCHEDULE = ("configuration", "clock", "ledger", "stripe", "openmeter", "mapping", "runs")
"""What is well in a plain world: it has no schedule, no webhook and no monitor."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A sandbox in which it is now, as it is for the command."""
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0))
    with world.sandbox.in_background():
        yield world


def subscribed(world: World, *prices: str, **details: Any) -> SubscriptionView:
    """Subscribe a customer since five days ago, who used 100."""
    subscription = world.subscribe(*prices, period_start=world.now - 5 * DAY, **details)
    world.use(subscription, 100, at=world.now - DAY)
    return subscription


def doctor(world: World, *options: str, only: tuple[str, ...] = (), **overrides: str) -> Outcome:
    sections = [part for section in only for part in ("--only", section)]
    return world.meter_sync("doctor", "--output", "json", *sections, *options, **overrides)


def found(done: Outcome, status: str, id: str | None = None) -> list[dict[str, Any]]:
    """The findings with a status, of a check; each that is not well has a remedy and a place in the documentation."""
    checks = done.document["checks"]
    for one in checks:
        is_unwell = one["status"] in ("warning", "problem")
        assert bool(one["remedy"]) == bool(one["place"]) == is_unwell, one
    return [one for one in checks if one["status"] == status and id in (None, one["id"])]


def problem(done: Outcome, code: int = 4) -> dict[str, Any]:
    """The only problem, with the exit code that it has."""
    (one,) = found(done, "problem")
    assert done.code == done.document["summary"]["exit_code"] == code, one
    return one


# -- all in all --------------------------------------------------------------------------------------


def test_where_all_is_well_each_check_is_ok_and_the_exit_code_is_0(world: World) -> None:
    subscribed(world)
    world.execute()

    done = doctor(world, only=BUT_SCHEDULE)

    assert (done.code, found(done, "problem"), found(done, "warning")) == (0, [], [])
    seen = {one["section"] for one in found(done, "ok")}
    assert seen == set(BUT_SCHEDULE)
    summary = done.document["summary"]
    counted = {status: len(found(done, status)) for status in ("ok", "warning", "problem", "skipped")}
    assert summary == {**counted, "exit_code": 0}


def test_it_writes_nothing_and_shows_no_secret(world: World) -> None:
    subscribed(world)
    world.execute()
    before, asked = world.ledger.read_bytes(), len(world.sandbox.requests)
    files = sorted(world.folder.rglob("*"))

    done = doctor(world)

    of_stripe = {one.method for one in world.sandbox.requests[asked:] if one.server == "stripe"}
    of_openmeter = {one.path for one in world.sandbox.requests[asked:] if one.method == "POST"}
    assert of_stripe == {"GET", "HEAD"}
    assert of_openmeter == {world.query_path(METER)}
    assert (world.ledger.read_bytes(), sorted(world.folder.rglob("*"))) == (before, files)
    for key in world.sandbox.environment().values():
        assert key.startswith("http") or key not in done.stdout + done.stderr


def test_a_person_reads_the_sign_first_and_the_remedy_below(world: World) -> None:
    subscribed(world, world.stripe.add_price(metadata={"om_meter_id": "nix"}))

    lines = world.meter_sync("doctor", "--only", "mapping").stdout.splitlines()

    assert lines[0] == "mapping"
    (at,) = [number for number, line in enumerate(lines) if line.startswith("\u00d7 meter_not_found: ")]
    assert lines[at + 1].startswith("  what to do: ")
    assert lines[at + 2] == "  see docs/mapping.md#the-meter"
    assert lines[-1].endswith("1 problem, 0 skipped. Runs can work, and somebody should look.")


def test_csv_has_a_row_for_each_check(world: World) -> None:
    done = world.meter_sync("doctor", "--offline", "--output", "csv")

    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["status"] for row in rows if row["id"] == "config"] == ["ok"]
    assert {row["section"] for row in rows} == {*BUT_SCHEDULE, "webhook", "schedule", "monitor"}


def test_offline_asks_no_server_and_says_what_it_left_out(world: World) -> None:
    done = doctor(world, "--offline", only=BUT_SCHEDULE)

    assert (done.code, world.sandbox.requests) == (0, [])
    assert {one["section"] for one in found(done, "skipped")} == {"clock", "stripe", "openmeter", "mapping", "runs"}


def test_with_wait_it_looks_again_until_there_is_no_problem(world: World) -> None:
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/account", status=500, times=1))

    at_once = doctor(world, only=("stripe",))
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/account", status=500, times=1))
    waited = doctor(world, "--wait", "60s", only=("stripe",))

    assert (problem(at_once, 78)["id"], waited.code) == ("stripe_key", 0)


# -- the configuration and the clock -----------------------------------------------------------------


def test_every_problem_of_the_configuration_is_named_and_what_needs_no_key_is_looked_at(world: World) -> None:
    subscribed(world)
    world.execute()

    done = doctor(world, STRIPE_API_KEY="", only=BUT_SCHEDULE)

    assert "no Stripe key" in problem(done, 78)["message"]
    assert {one["section"] for one in found(done, "skipped")} == {"clock", "stripe", "openmeter", "mapping"}
    assert [one["section"] for one in found(done, "ok", "last_run")] == ["runs"]
    world.configure("lookback_days = 0\n[openmeter]\nconcurrencie = 3\n")
    done = doctor(world, only=("configuration",))
    assert (done.code, len(found(done, "problem", "config"))) == (78, 2)


def test_a_file_that_was_only_found_in_the_working_directory_is_warned_of(world: World) -> None:
    world.configure("")
    named = doctor(world, only=("configuration",))
    world.config.rename(world.folder / "other.toml")
    world.folder.joinpath("meter-sync.toml").symlink_to("other.toml")
    world.config = world.folder / "no such file"

    (there,) = found(doctor(world, only=("configuration",)), "warning")

    assert found(named, "warning") == []
    assert "working directory" in there["message"]


def test_a_secret_that_everybody_may_read_is_warned_of(world: World) -> None:
    key = world.folder / "key"
    key.write_text(world.sandbox.environment()["STRIPE_API_KEY"], encoding="utf-8")

    for mode, warnings in ((0o600, 0), (0o644, 1)):
        key.chmod(mode)
        done = doctor(world, only=("configuration",), STRIPE_API_KEY="", STRIPE_API_KEY_FILE=str(key))
        assert [one["subject"] for one in found(done, "warning")] == ["stripe.api_key"] * warnings


@pytest.mark.parametrize(("seconds", "status", "code"), [(3600, "problem", 78), (20, "warning", 0), (0, "ok", 0)])
def test_a_clock_that_is_wrong_is_named_against_both_servers(
    world: World, seconds: float, status: str, code: int
) -> None:
    world.sandbox.date_skew_seconds = seconds

    done = doctor(world, only=("clock",))

    assert (done.code, [one["status"] for one in done.document["checks"] if one["subject"] == "Stripe"]) == (
        code,
        [status],
    )
    if seconds:
        assert "behind Stripe's" in found(done, status, "clock")[0]["message"]
    assert [one["subject"] for one in done.document["checks"]] == ["Stripe", "OpenMeter"]


# -- the ledger --------------------------------------------------------------------------------------


def test_a_ledger_that_is_not_there_yet_is_a_warning_and_is_not_made(world: World) -> None:
    (missing,) = found(doctor(world, only=("ledger",)), "warning")

    assert f"there is no ledger {world.ledger} yet" in missing["message"]
    assert not world.ledger.parent.exists()


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


def be_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def be_of_the_live_mode(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE bindings SET mode = 'live'")


LEDGERS: Mapping[str, Any] = {"damaged": damage, "newer": be_newer, "in live mode": be_of_the_live_mode}


@pytest.mark.parametrize("said", LEDGERS)
def test_a_ledger_with_which_no_run_works_is_a_problem(world: World, said: str) -> None:
    subscribed(world)
    world.execute()
    LEDGERS[said](world.ledger)

    done = doctor(world, only=("ledger",))

    (one, *_) = found(done, "problem", "ledger")
    assert said in one["message"]
    assert done.code in (4, 78)


def test_a_ledger_of_another_account_is_a_problem(world: World) -> None:
    subscribed(world)
    world.execute()
    with closing(sqlite3.connect(world.ledger)) as connection, connection:
        connection.execute("UPDATE bindings SET stripe_account = 'acct_other'")

    one = problem(doctor(world, only=("mapping",)), 78)

    assert (one["id"], "acct_other" in one["message"]) == ("ledger", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_ledger_of_another_user_is_warned_of(world: World) -> None:
    subscribed(world)
    world.execute()
    os.chown(world.ledger, 65534, 65534)

    (one,) = found(doctor(world, only=("ledger",)), "warning")

    assert "another's" in one["message"]


def test_a_second_ledger_in_a_usual_place_is_warned_of(world: World) -> None:
    subscribed(world)
    world.execute()
    other = world.folder / "meter-sync" / "ledger.sqlite3"
    other.parent.mkdir()
    other.write_bytes(world.ledger.read_bytes())

    (one,) = found(doctor(world, only=("ledger",), XDG_STATE_HOME=str(world.folder)), "warning")

    assert str(other) in one["message"]


# -- Stripe's key ------------------------------------------------------------------------------------

TRIED = {
    "accounts": ("Accounts (Connect)", 0),
    "billing_meters": ("Meters", 78),
    "events": ("Events", 0),
    "invoices": ("Invoices", 0),
    "meter_events": ("Meter events", 78),
    "prices": ("Prices", 78),
    "subscription_schedules": ("Subscription schedules", 0),
    "subscriptions": ("Subscriptions", 78),
    "test_clocks": ("Test clocks", 0),
    "usage_records": ("Usage records", 78),
}
"""Each resource of Stripe's that a read of a key without it tells, and the exit code."""


@pytest.mark.parametrize("resource", TRIED)
def test_a_permission_that_lacks_is_named_with_what_happens_without_it(world: World, resource: str) -> None:
    subscribed(world, world.price, world.stripe.add_price(meter=world.stripe.add_meter("calls")))
    lacks = {one for one in EVERY_PERMISSION if one.startswith(f"{resource}:")}
    world.stripe.add_restricted_key("rk_test_few", EVERY_PERMISSION - lacks)

    done = doctor(world, only=("stripe",), STRIPE_API_KEY="rk_test_few")

    shown, code = TRIED[resource]
    status = "problem" if code else "warning"
    assert shown in [one["subject"] for one in found(done, status, "stripe_permission")]
    assert f"lacks {shown}, " in "".join(one["message"] for one in found(done, status))
    assert done.code == code


def test_a_key_for_looking_only_may_read_all_there_is(world: World) -> None:
    subscribed(world, world.price, world.stripe.add_price(meter=world.stripe.add_meter("calls")))
    world.stripe.add_restricted_key("rk_test_reads", [one for one in EVERY_PERMISSION if one.endswith(":read")])

    done = doctor(world, only=("stripe",), STRIPE_API_KEY="rk_test_reads", METER_SYNC_SUBJECT="customer.metadata.om")

    assert (done.code, found(done, "warning"), found(done, "skipped")) == (0, [], [])
    assert len(found(done, "ok", "stripe_permission")) == 11


def test_a_permission_is_tried_on_what_it_is_needed_for_alone(world: World) -> None:
    subscribed(world, world.stripe.add_price(meter=world.stripe.add_meter("calls")))

    done = doctor(world, only=("stripe",))

    assert "Usage records" in [one["subject"] for one in found(done, "skipped")], "no item has a legacy price"


def test_a_key_that_stripe_refuses_is_one_problem_and_not_many(world: World) -> None:
    done = doctor(world, only=BUT_SCHEDULE, STRIPE_API_KEY="rk_test_wrong")

    assert problem(done, 78)["id"] == "stripe_key"
    assert [one["section"] for one in found(done, "skipped", "price_mapping")] == ["mapping"]


# -- OpenMeter ---------------------------------------------------------------------------------------


def test_openmeter_is_named_with_its_version_and_its_meters(world: World) -> None:
    answers, at_once = found(doctor(world, only=("openmeter",)), "ok")

    assert f"API {world.openmeter_version} " in answers["message"]
    assert "(meters: 1)" in answers["message"]
    assert at_once["message"].startswith("4 questions at once")


def test_an_openmeter_that_is_away_keeps_runs_from_working(world: World) -> None:
    one = problem(doctor(world, only=("openmeter",), OPENMETER_URL="http://127.0.0.1:9"), 78)

    assert (one["id"], "could not be asked" in one["message"]) == ("openmeter", True)


def test_an_openmeter_that_does_not_stand_so_many_at_once_is_warned_of(world: World) -> None:
    again = {"Retry-After": "0"}
    world.sandbox.faults.add(Fault(server="openmeter", path="/meters$", status=429, headers=again, skip=1, times=2))

    (one,) = found(doctor(world, only=("openmeter",), METER_SYNC_RETRY_SECONDS="10"), "warning", "openmeter")

    assert "2 of them had to be asked again" in one["message"]


# -- the mapping -------------------------------------------------------------------------------------


def test_items_that_a_run_would_skip_are_named_by_their_reason(world: World) -> None:
    world.openmeter.add_meter("largest", aggregation="MAX")
    hourly = world.stripe.add_meter("hourly", window="hour")
    inactive = world.stripe.add_meter("inactive")
    prices = {
        "no_meter_mapping": world.stripe.add_price(metadata={}),
        "meter_not_found": world.stripe.add_price(metadata={"om_meter_id": "nix"}),
        "aggregation_mismatch": world.stripe.add_price(metadata={"om_meter_id": "largest"}, meter=hourly),
        "unsupported_meter": world.stripe.add_price(metadata={"om_meter_id": METER}, meter=inactive),
    }
    items = {reason: subscribed(world, price).items[0] for reason, price in prices.items()}
    world.stripe.deactivate_meter(inactive)

    done = doctor(world, only=("mapping",))

    problems = {one["message"].partition(":")[0]: one for one in found(done, "problem")}
    assert {reason: one["id"] for reason, one in problems.items()} == {
        "no_meter_mapping": "price_mapping",
        "meter_not_found": "openmeter_meter",
        "aggregation_mismatch": "billing_meter",
        "unsupported_meter": "billing_meter",
    }
    assert all(item in problems[reason]["subject"] for reason, item in items.items())
    assert done.code == 4


def test_a_customer_without_a_subject_is_named(world: World) -> None:
    subscribed(world)

    one = problem(doctor(world, only=("mapping",), METER_SYNC_SUBJECT="customer.metadata.om"))

    assert (one["id"], "no_subject" in one["message"]) == ("subject", True)


def test_two_billing_meters_of_one_event_name_are_named(world: World) -> None:
    price = world.stripe.add_price(metadata={"om_meter_id": METER}, meter=world.stripe.add_meter("calls"))
    subscribed(world, price)

    def doubled(body: str) -> bytes:
        answer = json.loads(body)
        answer["data"].append({**answer["data"][0], "id": "mtr_twin"})
        return json.dumps(answer).encode()

    world.sandbox.faults.add(Fault(server="stripe", path="/v1/billing/meters$", rewrite=doubled, times=None))

    one = problem(doctor(world, only=("mapping",)))

    assert "two active ones have its event name" in one["message"]


def test_a_meter_that_counts_from_later_on_is_named_as_a_run_would(world: World) -> None:
    world.openmeter.add_meter("late", event_from=world.now - 2 * DAY)
    subscription = world.subscribe(
        world.stripe.add_price(metadata={"om_meter_id": "late"}), period_start=world.now - 5 * DAY
    )
    world.use(subscription, 1, meter="late")

    one = problem(doctor(world, only=("mapping",)))

    assert (one["id"], "meter_starts_later" in one["message"]) == ("openmeter_meter", True)


def test_a_subject_without_usage_is_a_warning_and_a_problem_where_others_have_all_of_it(world: World) -> None:
    silent = world.subscribe(period_start=world.now - 5 * DAY)
    no_usage = doctor(world, only=("mapping",))
    world.openmeter.add_event(METER, "named-otherwise", world.now - DAY, value=7)
    all_named_otherwise = doctor(world, only=("mapping",))
    subscribed(world)
    some = doctor(world, only=("mapping",))

    assert [one["message"] for one in found(no_usage, "warning", "subject")] == [f"meter {METER} has no usage yet"]
    one = problem(all_named_otherwise)
    assert (one["id"], "usage of named-otherwise" in one["message"]) == ("subject", True)
    (warned,) = found(some, "warning", "subject")
    assert (some.code, warned["message"]) == (0, f"meter {METER} has never had usage of {world.customer_of(silent)}")


def test_a_row_and_a_price_that_are_for_nobody_are_warned_of(world: World) -> None:
    subscribed(world)
    unmapped = world.stripe.add_price(metadata={})
    world.configure(f'[[meters]]\nprice = "price_slip"\nopenmeter = "{METER}"\n')

    done = doctor(world, only=("mapping",))

    assert {one["subject"] for one in found(done, "warning", "price_mapping")} == {"price_slip", unmapped}
    world.configure('[[meters]]\nprice = "price_slip"\nopenmeter = "nix"\n')
    assert problem(doctor(world, only=("mapping",)))["subject"] == "nix"


def test_windows_that_are_finer_than_the_schedule_are_warned_of(world: World) -> None:
    meter = world.stripe.add_meter("hourly", window="hour")
    subscribed(world, world.stripe.add_price(metadata={"om_meter_id": METER}, meter=meter))

    daily = doctor(world, only=("mapping",), METER_SYNC_SCHEDULE="daily")

    assert [one["subject"] for one in found(daily, "warning", "billing_meter")] == [meter]
    assert found(doctor(world, only=("mapping",)), "warning", "billing_meter") == []


# -- runs --------------------------------------------------------------------------------------------


def test_what_runs_left_is_named(world: World) -> None:
    subscription = subscribed(world)
    world.execute()
    world.use(subscription, -60, at=world.now - HOUR)
    world.sandbox.clock.advance(MINUTE)
    world.execute()

    done = doctor(world, only=("runs",))

    one = problem(done)
    assert (one["id"], "(decrease)" in one["message"]) == ("held", True)
    assert [one["id"] for one in found(done, "ok")] == ["last_run", "lock", "unbilled"]


def test_a_run_that_is_overdue_is_named_with_since_when(tmp_path: Path) -> None:
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0) - 3 * HOUR)
    with world.sandbox.in_background():
        subscribed(world)
        world.execute()

        one = problem(doctor(world, only=("runs",)))

    assert one["id"] == "last_run"
    assert f"no complete run since {world.now:%Y-%m-%d %H:%M:%S} UTC: nothing is billed" in one["message"]


def test_the_process_that_holds_the_lock_is_named_and_not_disturbed(world: World) -> None:
    subscribed(world)
    world.execute()

    with run_lock(world.ledger, Scope("", "sandbox")):
        (one,) = found(doctor(world, only=("runs",)), "ok", "lock")

    assert f"process {os.getpid()}" in one["message"]


def test_a_run_that_works_for_longer_than_runs_are_apart_is_stuck(tmp_path: Path) -> None:
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0) - 90 * MINUTE)
    with world.sandbox.in_background():
        subscribed(world)
        world.execute()
        world.sandbox.clock.advance(MINUTE)
        with open_ledger(world.ledger, Scope("", "sandbox")) as ledger:
            ledger.runs.begin(run_record(Request(), "hourly", world.now))
        with run_lock(world.ledger, Scope("", "sandbox")):
            one = problem(doctor(world, only=("runs",)))
        free = doctor(world, only=("runs",))

    assert (one["id"], f"process {os.getpid()} holds" in one["message"]) == ("lock", True)
    assert f"kill {os.getpid()}" in one["remedy"]
    assert (free.code, len(found(free, "ok", "lock"))) == (0, 1), "what was killed is no lock"


# -- the webhook and the monitors --------------------------------------------------------------------

URL = "https://hooks.example.com/webhook"


def looked_at_webhook(world: World, secrets: str = "whsec_1,whsec_2") -> Outcome:
    return doctor(world, only=("webhook",), STRIPE_WEBHOOK_SECRET=secrets)


def test_a_webhook_that_is_not_configured_is_not_looked_at(world: World) -> None:
    done = doctor(world, only=("webhook",))

    assert (done.code, [one["id"] for one in found(done, "skipped")]) == (0, ["webhook_endpoint"])


def test_destinations_that_deliver_what_the_webhook_reads_are_well(world: World) -> None:
    made = [world.stripe.add_event_destination(URL, SNAPSHOTS, "snapshot")]
    made.append(world.stripe.add_event_destination(URL, THIN, "thin"))

    done = looked_at_webhook(world)

    assert (done.code, [one["subject"] for one in found(done, "ok")]) == (0, [one.id for one in made])
    (lacking,) = found(looked_at_webhook(world, "whsec_1"), "warning")
    assert (lacking["subject"], "1 secrets are configured, for 2" in lacking["message"]) == ("secret", True)


def test_what_the_destinations_lack_is_named(world: World) -> None:
    nothing = looked_at_webhook(world)
    less = world.stripe.add_event_destination(URL, SNAPSHOTS[1:], "snapshot")
    few = looked_at_webhook(world)

    assert problem(nothing)["subject"] == "snapshot"
    assert [one["subject"] for one in found(nothing, "warning")] == ["thin"]
    one = problem(few)
    assert (one["subject"], one["message"].endswith(f"does not get {SNAPSHOTS[0]}")) == (less.id, True)


def test_a_destination_that_is_disabled_is_named(world: World) -> None:
    made = world.stripe.add_event_destination(URL, SNAPSHOTS, "snapshot")
    with world.stripe.settled() as state:
        state.destinations.find(made.id).is_disabled = True

    assert problem(looked_at_webhook(world))["subject"] == made.id


def test_a_key_that_may_not_read_destinations_is_enough_for_runs(world: World) -> None:
    world.stripe.add_restricted_key("rk_test_runs", {one for one in EVERY_PERMISSION if "webhook" not in one})

    done = doctor(world, only=("webhook",), STRIPE_API_KEY="rk_test_runs", STRIPE_WEBHOOK_SECRET="whsec_1")

    assert (done.code, [one["id"] for one in found(done, "warning")]) == (0, ["webhook_endpoint"])


def test_no_monitor_at_all_is_warned_of(world: World) -> None:
    done = doctor(world, only=("monitor",))

    assert (done.code, [one["id"] for one in found(done, "warning")]) == (0, ["monitor"])


def test_each_monitor_that_answers_is_well_and_is_told_of_no_run(world: World) -> None:
    file = world.folder / "notify"
    with listening() as listener:
        file.write_text(f"# people\njson://{listener.address}\n", encoding="utf-8")
        url, textfile = f"http://{listener.address}/secret", world.folder / "meter_sync.prom"
        world.configure(f'[monitor]\nping_url = "{url}"\ntextfile = "{textfile}"\nnotify_file = "{file}"\n')

        done = doctor(world, only=("monitor",))
        offline = doctor(world, "--offline", only=("monitor",))

    assert (done.code, [one["subject"] for one in found(done, "ok")]) == (0, ["ping_url", "textfile", "notify_file"])
    assert listener.paths == ["/secret/log"]
    assert "/secret" not in done.stdout
    assert not textfile.exists()
    assert [one["subject"] for one in found(offline, "skipped")] == ["ping_url"]


def test_each_monitor_that_does_not_answer_is_a_problem(world: World) -> None:
    file = world.folder / "notify"
    file.write_text("nonsense\n", encoding="utf-8")
    textfile = world.folder / "not there" / "meter_sync.prom"
    world.configure(f'[monitor]\nping_url = "http://127.0.0.1:9/x"\ntextfile = "{textfile}"\nnotify_file = "{file}"\n')

    done = doctor(world, only=("monitor",))

    assert (done.code, [one["subject"] for one in found(done, "problem")]) == (
        4,
        ["ping_url", "textfile", "notify_file"],
    )


# -- the schedule ------------------------------------------------------------------------------------

FULL = "7 * * * * /opt/meter-sync/bin/meter-sync run --quiet\n"
CLOSING = "* * * * * /opt/meter-sync/bin/meter-sync run --closing 3m --quiet\n"


def scheduled(world: World, crontab: str = "", timers: Mapping[str, str] | None = None, workers: str = "") -> Outcome:
    """Look at a machine with a crontab, timers that are enabled and active or not, and workers that are active."""
    programs = world.folder / "programs"
    programs.mkdir(exist_ok=True)
    states = "".join(
        f"'{question} {timer}') echo {state};;\n"
        for (timer, state) in (timers or {}).items()
        for question in ("is-enabled", "is-active")
    )
    states += f"'list-units '*) echo '{workers}';;\n"
    for name, script in {
        "crontab": f"#!/bin/sh\ncat <<'END'\n{crontab}END\n",
        "systemctl": f'#!/bin/sh\ncase "$1 $2" in\n{states}*) echo not-found;;\nesac\n',
    }.items():
        programs.joinpath(name).write_text(script, encoding="utf-8")
        programs.joinpath(name).chmod(0o755)
    return doctor(world, only=("schedule",), PATH=f"{programs}:/usr/bin:/bin")


def test_no_schedule_is_a_problem_while_no_runs_come(world: World) -> None:
    one = problem(scheduled(world, f"# {FULL}"))

    assert "nothing that this user can see starts runs" in one["message"]


def test_where_runs_come_all_the_same_it_is_elsewhere(world: World) -> None:
    subscribed(world)
    world.execute()

    done = scheduled(world)

    assert (done.code, [one["id"] for one in found(done, "warning")]) == (0, ["schedule"])


def test_lines_of_a_crontab_are_a_schedule_if_both_are_there(world: World) -> None:
    both, alone = scheduled(world, FULL + CLOSING), scheduled(world, FULL)

    assert [one["subject"] for one in found(both, "ok")] == [None, "closing"]
    assert (both.code, alone.code) == (0, 0)
    assert [one["subject"] for one in found(alone, "warning")] == ["closing"]


def test_timers_are_a_schedule_if_they_are_enabled(world: World) -> None:
    off = scheduled(world, timers={"meter-sync.timer": "disabled", "meter-sync-closing.timer": "disabled"})

    assert off.code == 4
    assert {one["subject"] for one in found(off, "problem")} == {"meter-sync.timer", "meter-sync-closing.timer"}


def test_workers_are_a_schedule_and_timers_beside_them_may_be_off(world: World) -> None:
    off = {"meter-sync.timer": "disabled", "meter-sync-closing.timer": "disabled"}
    done = scheduled(world, timers=off, workers="meter-sync-worker@2.service loaded active running Carry out runs")

    assert (done.code, [one["subject"] for one in found(done, "ok")]) == (0, [None, "closing"])
    assert found(done, "ok")[0]["message"].endswith("meter-sync-worker@2.service")


def test_what_is_no_full_run_of_each_day_is_no_schedule(world: World) -> None:
    lines = (
        "7 * * * * meter-sync run --dry-run",
        "7 * * * * meter-sync run --customer cus_1",
        "7 3 1 1 * meter-sync run --quiet",
        "7 * * * * meter-sync status; /usr/bin/run-something",
        "7 * * * * my-meter-sync run",
        "@reboot meter-sync run",
    )

    assert found(scheduled(world, "\n".join(lines) + "\n"), "ok") == []


def test_of_a_crontab_its_times_are_told_and_not_its_command(world: World) -> None:
    key = "sk_live_51NobodySees"
    line = f"7 * * * * STRIPE_API_KEY={key} timeout 9 /opt/meter-sync --config /etc/x.toml --log-level info run --quiet"

    done = scheduled(world, f"{line} || exit\n@hourly '/srv/meter-sync' run --closing=3m\n")

    assert [one["message"].rpartition(": ")[2] for one in found(done, "ok")] == ["7 * * * *", "@hourly"]
    assert key not in done.stdout


# -- more that was found by trying -------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_list_that_stripe_does_not_give_is_a_finding_and_no_crash(world: World, status: int) -> None:
    subscribed(world)
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/prices$", status=status, skip=1, times=None))

    one = problem(doctor(world, only=("mapping",)), 78)

    assert one["id"] == "price_mapping"


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: os.mkfifo(path)], ids=["folder", "pipe"])
def test_a_ledger_that_is_no_file_is_named_and_not_waited_for(world: World, make: Callable[[Path], None]) -> None:
    world.ledger.parent.mkdir()
    make(world.ledger)

    assert "is no file" in problem(doctor(world, only=("ledger",)), 78)["message"]


def test_a_file_of_webhook_secrets_that_is_still_to_be_made_keeps_no_run_from_working(world: World) -> None:
    done = doctor(world, only=("configuration",), STRIPE_WEBHOOK_SECRET_FILE=str(world.folder / "not yet"))
    checked = world.meter_sync("config", "check", STRIPE_WEBHOOK_SECRET_FILE=str(world.folder / "not yet"))

    assert (done.code, checked.code) == (0, 0)
    assert [one["subject"] for one in found(done, "warning")] == ["stripe.webhook_secret"]


def test_a_configuration_that_may_not_be_read_is_a_wrong_configuration(world: World) -> None:
    world.config.mkdir()

    done = world.meter_sync("run", "--output", "json")

    assert (done.code, done.error_code) == (78, "configuration")
