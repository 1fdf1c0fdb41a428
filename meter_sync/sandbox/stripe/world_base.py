"""What all of the embedded Stripe's world stands on: its lock, its clock, its state and its settings."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from meter_sync.sandbox.clock import SandboxClock
from meter_sync.sandbox.stripe.protocol.idempotency import SavedAnswers
from meter_sync.sandbox.stripe.protocol.permissions import Permissions, known
from meter_sync.sandbox.stripe.protocol.versions import parse_version
from meter_sync.sandbox.stripe.rules import meters, timeline
from meter_sync.sandbox.stripe.rules.lifecycle import schedule
from meter_sync.sandbox.stripe.state.state import StripeState

Metadata = Mapping[str, str]


class WorldBase:
    """The state of the embedded Stripe, and how it comes up to date with the clock."""

    def __init__(self, clock: SandboxClock, keys: Mapping[str, Permissions]) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.keys = dict(keys)
        """API keys, and what each may do."""
        self.account = "acct_1SandboxAccount00"
        """The account that all of these keys are of."""
        self.grace_seconds: float = 300
        """How long after a period's end a `sum` price still takes records for it."""
        self.summary_lag_seconds = 0
        """How long summaries do not show an event yet: they are eventually consistent."""
        self.meter_processing_seconds = 0
        """How long after their receipt rejected meter events are reported."""
        self.reject_meter_events_as: str | None = None
        """The code with which meter events are rejected after they were taken, for whatever reason of Stripe's."""
        self.samples_per_error = 3
        """How many of the events rejected for one cause an error report names."""
        self.one_event_at_a_time = True
        """Whether an event of a customer on a meter is refused while another one of the same is under way."""
        self.item_created_delay_seconds = 1
        """The items of a new subscription are often created a second after it (reported by users).
        """
        self.saved_answers = SavedAnswers()
        self.state = StripeState()

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
                schedule(state, subscription)

    @property
    def api_version(self) -> str:
        """The account's API version: of requests that name none, and of the events from now on."""
        return self.state.api_version

    @api_version.setter
    def api_version(self, name: str) -> None:
        with self.settled() as state:
            state.api_version = parse_version(name, state.api_version).name

    @property
    def livemode(self) -> bool:
        """Whether what happens is told of as live: by the keys there are."""
        return any(key[2:7] == "_live" for key in self.keys)

    def add_restricted_key(self, key: str, permissions: Iterable[str]) -> str:
        """Add a key that may do only this, and return it. Raise ValueError for a permission that Stripe lacks."""
        self.keys[key] = known(permissions)
        return key

    @contextmanager
    def settled(self) -> Iterator[StripeState]:
        """Hold the lock over a state in which all periods that have ended are closed."""
        with self.lock:
            now = self.clock.timestamp()
            timeline.settle(self.state, now)
            meters.report_rejections(self.state, now, self.meter_processing_seconds)
            yield self.state
