"""The tables of the ledger, of types that SQLite and PostgreSQL share.

The migrations beside this module build them; a test holds the two against each other.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, Index, LargeBinary, Table

from meter_sync.ledger.column_types import DecimalText, Name, Said, Small, Stretches, UtcSeconds, Whole

metadata = sa.MetaData()


def _table(name: str, *columns: Column[Any] | Index) -> Table:
    """A table in whose keys the Stripe account and mode (live or sandbox) come first."""
    scope: tuple[Column[Any], ...] = (
        Column("account", Name(255), primary_key=True),
        Column("mode", Name(10), primary_key=True),
    )
    return Table(name, metadata, *scope, *columns)


def _index_of_some(name: str, *columns: str, where: str) -> Index:
    """An index of the rows alone that fulfil a condition, in words that both databases know."""
    return Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _table_of_periods(name: str, *columns: Column[Any] | Index) -> Table:
    """One in whose keys an item and its period come next."""
    place: tuple[Column[Any], ...] = (
        Column("item", Name(255), primary_key=True),
        Column("period_start", UtcSeconds, primary_key=True),
    )
    return _table(name, *place, *columns)


runs = _table(
    "runs",
    Column("run", Name(36), primary_key=True),
    Column("started_at", UtcSeconds, nullable=False),
    Column("finished_at", UtcSeconds),
    Column("as_of", UtcSeconds, nullable=False),
    Column("schedule", Name(10), nullable=False),
    Column("everything", Boolean, nullable=False),
    Column("exit_code", Small),
    Column("counts", Said),
    Column("pages", Small),
)

items = _table(
    "items",
    Column("item", Name(255), primary_key=True),
    Column("looked_at", UtcSeconds, nullable=False),
)
"""Items that were looked at in Stripe before their first write."""

forgotten = _table_of_periods("forgotten")
"""Periods of which it is not known any more what Stripe holds: they are looked at anew, though the item is known."""

past_periods = _table_of_periods(
    "past_periods",
    Column("period_end", UtcSeconds, nullable=False),
    Column("quantity", Whole, nullable=False),
)
"""What Stripe said, at the first look, of an item's periods before that: only the brakes compare with them."""

item_periods = _table_of_periods(
    "item_periods",
    Column("period_end", UtcSeconds, nullable=False),
    Column("subscription", Name(255), nullable=False),
    Column("customer", Name(255), nullable=False),
    Column("price", Name(255), nullable=False),
    Column("target", Name(20), nullable=False),
    Column("meter", Name(64), nullable=False),
    Column("filter", Said, nullable=False),
    Column("scale", DecimalText, nullable=False),
    Column("rounding", Name(20), nullable=False),
    Column("subjects", Said, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("usage_start", UtcSeconds, nullable=False),
    Column("anchor", UtcSeconds, nullable=False),
    Column("quantity", Whole, nullable=False),
    Column("as_of", UtcSeconds, nullable=False),
    Column("acknowledged", Whole),
    Column("acknowledged_at", UtcSeconds),
    Column("foreign_quantity", Whole, nullable=False),
    Column("foreign_held", Boolean, nullable=False),
    Column("total_before", Whole),
    Column("seen_at", UtcSeconds, nullable=False),
    Column("way", Name(20), nullable=False, server_default="record"),
    Column("stripe_meter", Name(255)),
    Column("window", Name(10)),
    Column("identifier", Name(100)),
    Column("read_whole_at", UtcSeconds),
    Column("closed", Whole, nullable=False, server_default="0"),
    Column("rejected", Said),
    Column("opening", Whole, nullable=False, server_default="0"),
    Column("run", Name(36)),
    Column("reported", Stretches),
    Column("earlier_subjects", Said),
    Column("meter_id", Name(64)),
    Column("aggregation", Name(20)),
    Column("grouping", Name(20)),
    Column("events_from", UtcSeconds),
    Index("item_periods_by_end", "account", "mode", "period_end"),
    Index("item_periods_by_identifier", "account", "mode", "identifier"),
    Index("item_periods_by_customer", "account", "mode", "customer"),
)
"""The state of each item in each period: what the next plan is made from."""

writes = _table(
    "writes",
    Column("run", Name(36), primary_key=True),
    Column("item", Name(255), primary_key=True),
    Column("period_start", UtcSeconds, primary_key=True),
    Column("step", Small, primary_key=True),
    Column("anchor", UtcSeconds, nullable=False),
    Column("usage", DecimalText),
    Column("quantity", Whole, nullable=False),
    Column("at_anchor", Whole, nullable=False),
    Column("previous", Whole),
    Column("intended_at", UtcSeconds, nullable=False),
    Column("acknowledged_at", UtcSeconds),
    Column("request_id", Name(255)),
    Column("carried", Whole, nullable=False, server_default="0"),
    Index("writes_by_item", "account", "mode", "item", "period_start"),
)
"""Every write that was ever intended, never changed but for its acknowledgement."""

past_writes = _table_of_periods(
    "past_writes",
    Column("since", UtcSeconds, primary_key=True),
    Column("how_many", Small, nullable=False),
    Column("is_by_day", Boolean, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
"""Writes of an item's period that later ones superseded, many in a row: those of one UTC day, that which begins at
`since`; or, where it is an earlier period, the last one of each day (`is_by_day`)."""

past_parts = _table_of_periods(
    "past_parts",
    Column("since", UtcSeconds, primary_key=True),
    Column("until", UtcSeconds, nullable=False),
    Column("total", DecimalText, nullable=False),
    Column("how_many", Small, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
"""Hours or days of an item's period that stand in Stripe as they were to be, many in a row: those that begin from
`since` to `until`, and the usage of the period up to the end of the last one."""

past_additions = _table_of_periods(
    "past_additions",
    Column("since", UtcSeconds, primary_key=True),
    Column("highest_base", Whole, nullable=False),
    Column("added", Whole, nullable=False),
    Column("how_many", Small, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
"""Events that have added to an item's period and that others followed, many in a row: those of some days from `since`
on, what they began at, at the highest, and what they have added together."""

run_numbers = _table(
    "run_numbers",
    Column("run", Name(36), primary_key=True),
    Column("number", Small, nullable=False),
)
"""The numbers by which packed rows name runs."""

prices = _table(
    "prices",
    Column("price", Name(255), primary_key=True),
    Column("found_empty_at", UtcSeconds, nullable=False),
)
"""Archived prices that had no subscription when they were last asked for."""

parts = _table_of_periods(
    "parts",
    Column("start", UtcSeconds, primary_key=True),
    Column("timestamp", UtcSeconds, nullable=False),
    Column("total", DecimalText, nullable=False),
    Column("value", Whole, nullable=False),
    Column("acknowledged", Whole),
    Column("acknowledged_at", UtcSeconds),
    Column("identifier", Name(100)),
    Column("request_id", Name(255)),
    Index("parts_by_identifier", "account", "mode", "identifier"),
)
"""The hours or days of an item's period, where each has a quantity of its own."""

additions = _table_of_periods(
    "additions",
    Column("number", Small, primary_key=True),
    Column("identifier", Name(100), nullable=False),
    Column("run", Name(36), nullable=False),
    Column("base", Whole, nullable=False),
    Column("value", Whole, nullable=False),
    Column("timestamp", UtcSeconds, nullable=False),
    Column("intended_at", UtcSeconds, nullable=False),
    Column("as_of", UtcSeconds, nullable=False),
    Column("attempted_at", UtcSeconds, nullable=False),
    Column("base_is_read", Boolean, nullable=False),
    Column("delivered_at", UtcSeconds),
    Column("request_id", Name(255)),
    Column("cancel_intended_at", UtcSeconds),
    Column("cancelled_at", UtcSeconds),
    Column("in_doubt", Boolean, nullable=False),
    Column("rejected", Said),
    Index("additions_by_identifier", "account", "mode", "identifier"),
)
"""Every event that was ever to add to what Stripe holds, with all that is needed to send it again exactly."""

cursors = _table(
    "cursors",
    Column("cursor", Name(50), primary_key=True),
    Column("position", Said, nullable=False),
)
"""How far a list of Stripe's was read."""

seen_periods = _table_of_periods(
    "seen_periods",
    Column("period_end", UtcSeconds, nullable=False),
    Column("subscription", Name(255), nullable=False),
    Column("customer", Name(255), nullable=False),
    Column("stripe_meter", Name(255)),
    Column("snapshot", Said, nullable=False),
    Column("seen_at", UtcSeconds, nullable=False),
    Column("complete_until", UtcSeconds),
    Column("is_refused", Boolean, nullable=False, server_default=sa.false()),
    Column("is_invoiced", Boolean),
    Column("read_back_at", UtcSeconds),
    Column("read_back", Whole),
    Column("remainder", Whole, nullable=False, server_default="0"),
    Column("why", Said),
    Column("named_at", UtcSeconds),
    Column("closed_at", UtcSeconds),
    Column("settled", Whole),
    Column("settled_at", UtcSeconds),
    Column("note", Said),
    Column("own", Stretches),
    Column("late_usage", Name(10)),
    Column("not_known", Said),
    Column("changes_at", UtcSeconds),
    Column("may_change_until", UtcSeconds),
    Column("voided_at", UtcSeconds),
    Column("usage", DecimalText),
    Column("due", Whole),
    Column("invoice", Name(255)),
    Index("seen_periods_by_end", "account", "mode", "closed_at", "period_end"),
    Index("seen_periods_by_customer", "account", "mode", "customer"),
    Index("seen_periods_by_subscription", "account", "mode", "subscription"),
    Index("seen_periods_by_late_usage", "account", "mode", "late_usage"),
)
"""Every item and period that was ever listed, as it was seen last, and how its end was brought about."""

carries = _table_of_periods(
    "carries",
    Column("into", UtcSeconds, primary_key=True),
    Column("quantity", Whole, nullable=False),
    Index("carries_by_target", "account", "mode", "item", "into"),
)
"""What a period does not bill, and was added to a later one of its item: that which starts at `into`."""

falls = _table_of_periods(
    "falls",
    Column("seen_at", UtcSeconds, primary_key=True),
    Column("before", Whole, nullable=False),
    Column("lowest", Whole, nullable=False),
)
"""How the usage of an item's period fell below what Stripe held, until it has come back or was explained."""

kept_series = _table(
    "kept_series",
    Column("series", Name(16), primary_key=True),
    Column("meter_id", Name(255), nullable=False),
    Column("meter", Name(255), nullable=False),
    Column("filter", Said, nullable=False),
    Column("grouping", Name(20), nullable=False),
    Column("aggregation", Name(20), nullable=False),
    Column("read_at", UtcSeconds, nullable=False),
    Column("as_of", UtcSeconds, nullable=False),
    Column("joints", Said, nullable=False),
)
"""What shares queries, and the instants that its items have in common. The key is made of the columns after it."""

kept_totals = _table(
    "kept_totals",
    Column("series", Name(16), primary_key=True),
    Column("subject", Name(255), primary_key=True),
    Column("totals", Said, nullable=False),
)
"""The total of each stretch between two of those instants, by subject."""

kept_usages = _table(
    "kept_usages",
    Column("series", Name(16), primary_key=True),
    Column("need", Name(255), primary_key=True),
    Column("start", UtcSeconds, primary_key=True),
    Column("subjects", Said, nullable=False),
    Column("end", UtcSeconds, nullable=False),
    Column("window", Name(10)),
    Column("usage", DecimalText),
)
"""What is known of an item's usage from the start of its own up to such an instant, or that its windows are."""

claims = _table(
    "claims",
    Column("item", Name(255), primary_key=True),
    Column("run", Name(36), nullable=False),
    Column("is_alone", Boolean, nullable=False),
    Column("expires_at", UtcSeconds, nullable=False),
)
"""Items that a run is writing at this moment, so that no other one writes them meanwhile."""

callers = _table(
    "callers",
    Column("run", Name(36), primary_key=True),
    Column("is_urgent", Boolean, nullable=False),
    Column("parts", Said, nullable=False),
    Column("until_ms", Whole, nullable=False),
)
"""Runs that ask Stripe at this moment, and what of its limits each of them takes; Unix milliseconds."""

webhook_events = _table(
    "webhook_events",
    Column("event", Name(255), primary_key=True),
    Column("type", Name(255), nullable=False),
    Column("subscription", Name(255)),
    Column("received_at", UtcSeconds, nullable=False),
    Column("done_at", UtcSeconds),
    _index_of_some("webhook_events_waiting", "account", "mode", where="done_at IS NULL"),
)
"""Events of Stripe's that came by webhook, each once, until the subscription concerned was reported."""

holds = _table_of_periods(
    "holds",
    Column("number", Small, primary_key=True),
    Column("outcome", Name(20), nullable=False),
    Column("reason", Name(40), nullable=False),
    Column("message", Said),
    Column("usage", DecimalText),
    Column("quantity", Whole),
    Column("previous", Whole),
    Column("first_run", Name(36), nullable=False),
    Column("first_at", UtcSeconds, nullable=False),
    Column("last_run", Name(36), nullable=False),
    Column("last_at", UtcSeconds, nullable=False),
    Column("times", Small, nullable=False),
)
"""What kept an item from being reported, and for how long: runs in a row that said the same share a row."""

epochs = Table(
    "epochs",
    metadata,
    Column("name", Name(300), primary_key=True),
    Column("epoch", Name(36), nullable=False),
    Column("marker", Said),
)
"""The epoch of each account's books, and of what is on a test clock, and what the marker beside it said before."""

bindings = Table(
    "bindings",
    metadata,
    Column("name", Name(300), primary_key=True),
    Column("stripe_account", Name(255), nullable=False),
    Column("mode", Name(10), nullable=False),
    Column("bound_at", UtcSeconds, nullable=False),
)
"""The Stripe account and mode that the books of each account are about: written at their first use."""

run_locks = _table(
    "run_locks",
    Column("epoch", Whole, nullable=False),
    Column("holder", Said, nullable=False),
    Column("taken_at", UtcSeconds, nullable=False),
    Column("beat_at", UtcSeconds, nullable=False),
)
"""Who took the run lock last, by the clock of the server that has the ledger; a file's lock is beside it."""

turns = _table(
    "turns",
    Column("kind", Name(20), primary_key=True),
    Column("worker", Said, nullable=False),
    Column("begun_at", UtcSeconds, nullable=False),
    Column("ended_at", UtcSeconds),
    Column("exit_code", Small),
)
"""What workers did last for an account, whatever its key's mode, by the clock of the server that has the ledger."""

signatures = _table(
    "signatures",
    *(Column(name, UtcSeconds, primary_key=True) for name in ("since", "until")),
    Column("number", Small, primary_key=True),
    Column("signed_by", Said, nullable=False),
    Column("signed_at", UtcSeconds, nullable=False),
    Column("digest", Name(64), nullable=False),
    Column("bridge", Said, nullable=False),
)
"""Who has signed the statement of a time, the digest of its figures, and its sums."""
