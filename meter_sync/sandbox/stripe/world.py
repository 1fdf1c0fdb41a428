"""The embedded Stripe's world, and the methods to set it up and to look at it without HTTP.

The HTTP endpoints use the same methods, so a rule holds on both ways in. A method is a rule of `rules` applied
under the world's lock, after the billing periods have turned that have ended by the sandbox's clock.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from meter_sync.sandbox.clock import SandboxClock
from meter_sync.sandbox.stripe.protocol.event_sessions import EventSessions
from meter_sync.sandbox.stripe.protocol.idempotency import SavedAnswers
from meter_sync.sandbox.stripe.protocol.keys import is_live
from meter_sync.sandbox.stripe.protocol.permissions import Permissions, known
from meter_sync.sandbox.stripe.protocol.versions import parse_version
from meter_sync.sandbox.stripe.rules import (
    clocks,
    customers,
    error_reports,
    event_destinations,
    invoice_lines,
    invoices,
    meter_events,
    meters,
    pending_updates,
    period_turns,
    prices,
    schedules,
    subscription_items,
    subscriptions,
    timeline,
    usage_records,
)
from meter_sync.sandbox.stripe.rules.subscriptions import SubscriptionView
from meter_sync.sandbox.stripe.rules.usage_records import Action
from meter_sync.sandbox.stripe.state.accounts import Account
from meter_sync.sandbox.stripe.state.objects import Invoice, Metadata, MeterEvent
from meter_sync.sandbox.stripe.state.stripe_state import StripeState
from meter_sync.sandbox.stripe.views.usage_records import Unbounded
from meter_sync.sandbox.stripe.webhooks import Webhooks

__all__ = ["StripeWorld", "SubscriptionView"]

P = ParamSpec("P")
R = TypeVar("R")


def _settled(rule: Callable[Concatenate[StripeState, P], R]) -> Callable[Concatenate["StripeWorld", P], R]:
    """Return a rule as a method: it holds the lock, and what was due by now happens first.

    Now is the time of whom is named first: of a test clock, if there is one.
    """

    @wraps(rule)
    def method(world: "StripeWorld", /, *args: P.args, **kwargs: P.kwargs) -> R:
        with world.settled() as state, state.in_time_of(state.clock_of(args[0]) if args else None):
            return rule(state, *args, **kwargs)

    return method


class StripeWorld:
    """An account of the embedded Stripe: its state, its settings, and what can be done to it.

    Its number is that among the accounts of one server; its platform is the account that it is connected to.
    """

    def __init__(
        self,
        clock: SandboxClock,
        keys: Mapping[str, Permissions],
        *,
        number: int = 0,
        metadata: Metadata | None = None,
        platform: "StripeWorld | None" = None,
    ) -> None:
        account = Account(f"acct_1SandboxAccount{number:02d}", number, clock.timestamp(), dict(metadata or {}))
        self.lock = threading.RLock()
        self.clock = clock
        self.keys = dict(keys)
        """API keys of this account, and what each may do."""
        self.connect_permissions: dict[str, Permissions] = {}
        """What keys may do in connected accounts, where it is not what they may do in this one."""
        self.connected: dict[str, StripeWorld] = {}
        """The accounts that are connected to this one, by their ids."""
        self._platform = platform
        self.grace_seconds: float = 300
        """How long after a period's end a `sum` price still takes records for it."""
        self.summary_lag_seconds = 0
        """How long summaries do not show an event yet: they are eventually consistent."""
        self.summaries_without_bounds: Unbounded = "none"
        """Which summaries of usage records do not say when their period is, as in the API reference's example."""
        self.meter_processing_seconds = 0
        """How long after their receipt rejected meter events are reported."""
        self.reject_meter_events_as: str | None = None
        """The code with which meter events are rejected after they were taken, for whatever reason of Stripe's."""
        self.reports_streamed_duplicates = False
        """Whether an error report tells of events that the stream had already; no documentation says."""
        self.samples_per_error = 3
        """How many of the events rejected for one cause an error report names."""
        self.one_event_at_a_time = True
        """Whether an event of a customer on a meter is refused while another one of the same is under way."""
        self.saved_answers = SavedAnswers()
        self.event_sessions = EventSessions(account.mark)
        self.state = StripeState(account)
        self.webhooks = Webhooks(self)

    @contextmanager
    def settled(self) -> Iterator[StripeState]:
        """Hold the lock over a state in which all periods that have ended are closed."""
        with self.lock:
            timeline.settle(self.state, self.clock.timestamp())
            error_reports.report_rejections(self.state, self.meter_processing_seconds)
            yield self.state

    # -- settings -------------------------------------------------------------------------------

    @property
    def account(self) -> str:
        """The id of this account."""
        return self.state.account.id

    @account.setter
    def account(self, name: str) -> None:
        self.state.account.id = name
        if self._platform is not None:
            self._platform.connected = {each.account: each for each in self._platform.connected.values()}

    @property
    def metadata(self) -> Metadata:
        """The metadata of this account."""
        return self.state.account.metadata

    @metadata.setter
    def metadata(self, metadata: Metadata) -> None:
        self.state.account.metadata = dict(metadata)

    @property
    def key(self) -> str:
        """The first of its keys. Raise LookupError for an account that only its platform's keys reach."""
        for key in self.keys:
            return key
        raise LookupError(f"{self.account} has no key of its own")

    @property
    def seconds_until_draft(self) -> int:
        """How long after the end of a period its invoice is made: at once by default; no promise is known."""
        return self.state.seconds_until_draft

    @seconds_until_draft.setter
    def seconds_until_draft(self, seconds: int) -> None:
        with self.settled() as state:
            state.seconds_until_draft = seconds

    @property
    def seconds_from_draft_to_final(self) -> int:
        """How long an invoice that is drafted from now on stays a draft: an hour by default, at most 72 hours."""
        return self.state.seconds_from_draft_to_final

    @seconds_from_draft_to_final.setter
    def seconds_from_draft_to_final(self, seconds: int) -> None:
        if not 3600 <= seconds <= 72 * 3600:
            raise ValueError("invoices are finalized between 1 and 72 hours after they were drafted")
        with self.settled() as state:
            state.seconds_from_draft_to_final = seconds

    @property
    def seconds_before_upcoming(self) -> int | None:
        """How long before a period's end `invoice.upcoming` tells of it: 7 days by default; None for never.

        Periods that are not longer than that are not told of.
        """
        return self.state.seconds_before_upcoming

    @seconds_before_upcoming.setter
    def seconds_before_upcoming(self, seconds: int | None) -> None:
        with self.settled() as state:
            state.seconds_before_upcoming = seconds
            for subscription in state.subscriptions:
                period_turns.schedule(state, subscription)

    @property
    def api_version(self) -> str:
        """The account's API version: of requests that name none, and of the events from now on."""
        return self.state.api_version

    @api_version.setter
    def api_version(self, name: str) -> None:
        with self.settled() as state:
            state.api_version = parse_version(name, state.api_version).name

    @property
    def phases_change_prices(self) -> bool:
        """Whether a schedule's phase puts an item on its new price; by default another item takes its place."""
        return self.state.phases_change_prices

    @phases_change_prices.setter
    def phases_change_prices(self, changes: bool) -> None:
        with self.settled() as state:
            state.phases_change_prices = changes

    @property
    def livemode(self) -> bool:
        """Whether what happens is told of as live: by the keys there are, of a connected account its platform's."""
        return any(map(is_live, (self if self._platform is None else self._platform).keys))

    def add_restricted_key(self, key: str, permissions: Iterable[str]) -> str:
        """Add a key that may do only this, and return it. Raise ValueError for a permission that Stripe lacks."""
        self.keys[key] = known(permissions)
        return key

    # -- setting up -----------------------------------------------------------------------------

    add_test_clock = _settled(clocks.add_test_clock)
    advance_test_clock = _settled(clocks.advance_test_clock)
    add_customer = _settled(customers.add_customer)
    delete_customer = _settled(customers.delete_customer)
    add_product = _settled(prices.add_product)
    add_price = _settled(prices.add_price)
    add_meter = _settled(meters.add_meter)
    deactivate_meter = _settled(meters.deactivate_meter)
    reactivate_meter = _settled(meters.reactivate_meter)
    add_subscription = _settled(subscriptions.add_subscription)
    add_event_destination = _settled(event_destinations.add_event_destination)
    update_event_destination = _settled(event_destinations.update_event_destination)
    disable_event_destination = _settled(event_destinations.disable_event_destination)

    # -- changing a subscription ----------------------------------------------------------------

    set_status = _settled(subscriptions.set_status)
    set_subscription_metadata = _settled(subscriptions.set_subscription_metadata)
    restart_periods = _settled(subscriptions.restart_periods)
    start_trial = _settled(subscriptions.start_trial)
    end_trial = _settled(subscriptions.end_trial)
    pause_collection = _settled(subscriptions.pause_collection)
    resume = _settled(subscriptions.resume)
    cancel = _settled(subscriptions.cancel)
    cancel_at = _settled(subscriptions.cancel_at)
    cancel_at_period_end = _settled(subscriptions.cancel_at_period_end)
    add_item = _settled(subscription_items.add_item)
    change_price = _settled(subscription_items.change_price)
    delete_item = _settled(subscription_items.delete_item)
    set_item_metadata = _settled(subscription_items.set_item_metadata)
    add_schedule = _settled(schedules.add_schedule)
    set_phases = _settled(schedules.set_phases)
    plan_change = _settled(schedules.plan_change)
    release_schedule = _settled(schedules.release)
    cancel_schedule = _settled(schedules.cancel)
    hold_update = _settled(pending_updates.hold_update)
    pay_for_update = _settled(pending_updates.pay_for_update)

    # -- changing an invoice --------------------------------------------------------------------

    void_invoice = _settled(invoices.void_invoice)
    delete_draft = _settled(invoices.delete_draft)

    # -- reporting usage ------------------------------------------------------------------------

    def create_usage_record(
        self, item_id: str, quantity: int, timestamp: int | None = None, action: Action = "increment"
    ) -> int:
        """Write a usage record by Stripe's rules; return its timestamp (given None: now)."""
        with self.settled() as state:
            # The grace ends within a second.
            clock, grace = state.clock_of(item_id), self.grace_seconds
            now = self.clock.now().timestamp() if clock is None else state.now_of(clock)
            return usage_records.create_usage_record(
                state, item_id, quantity, timestamp, action, now=now, grace_seconds=grace
            )

    def create_meter_event(
        self, event_name: str, payload: Mapping[str, str], timestamp: int | None = None, identifier: str | None = None
    ) -> MeterEvent:
        """Take a meter event by Stripe's rules (given None: now, and an identifier of Stripe's)."""
        with self.settled() as state:
            return meter_events.create_meter_event(
                state, event_name, payload, timestamp, identifier, reject_as=self.reject_meter_events_as
            )

    def stream_meter_events(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Take the events of a request to the meter event stream, each as `create_meter_event` is given it."""
        with self.settled() as state:
            for event in events:
                meter_events.stream_meter_event(
                    state,
                    **event,
                    reject_as=self.reject_meter_events_as,
                    reports_duplicates=self.reports_streamed_duplicates,
                )

    cancel_meter_event = _settled(meter_events.cancel_meter_event)

    # -- looking --------------------------------------------------------------------------------

    records = _settled(usage_records.records)
    meter_events = _settled(meter_events.received)
    period = _settled(subscription_items.open_period)
    total = _settled(invoice_lines.total)
    invoice_preview = _settled(invoice_lines.preview)

    @property
    def invoices(self) -> list[Invoice]:
        """All invoices, oldest first."""
        with self.settled() as state:
            return list(state.invoices)
