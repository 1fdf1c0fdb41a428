"""The event destinations that `meter-sync webhook` needs: what is there of them, and making the rest."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from meter_sync.errors import ConfigurationError, MeterSyncError
from meter_sync.net.stop import Stop
from meter_sync.setup.secrets_file import SecretsFile
from meter_sync.setup.steps import Action, Kind, Step, found
from meter_sync.stripe_api.connection import StripeReader, StripeWriter
from meter_sync.stripe_api.event_destinations import (
    DestinationData,
    Wanted,
    create_destination,
    event_destinations,
    update_events,
)


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination that is wanted, and what is there of it."""

    wanted: Wanted
    step: Step
    events: Sequence[str]
    """All that it is to get: what is there gets more in the place of another choice."""


@dataclass(frozen=True, slots=True)
class WebhookPlan:
    """What is wanted for an address, and what is there of it."""

    url: str
    destinations: tuple[Destination, ...]
    file: SecretsFile
    secrets: int
    """How many the file has."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of it, in the order in which it is made."""
        return tuple(one.step for one in self.destinations)

    @property
    def lacking(self) -> tuple[str, ...]:
        """The destinations that are there, where the file has not even as many secrets as there are of them."""
        there = tuple(step.id for step in self.steps if step.id is not None)
        return there if self.secrets < len(there) else ()


async def plan(stripe: StripeReader, url: str, wanted: Sequence[Wanted], file: SecretsFile) -> WebhookPlan:
    """Find what is there of the destinations, and that the file can be added to; write nothing.

    Raise ConfigurationError for the file, or what StripeReader raises.
    """
    file.check()
    there = await event_destinations(stripe)
    return WebhookPlan(url, tuple(_destination(one, url, there) for one in wanted), file, file.count())


async def make(plan: WebhookPlan, stripe: StripeWriter, stop: Stop) -> AsyncIterator[Step]:
    """Make and complete destinations, one after the other, and give each step when it is done.

    The secret of each is in the file before anything else is made, also where the end is asked for in between.
    Raise what StripeWriter raises, or MeterSyncError where a secret is lost: what was given by then is made.
    """
    for one in plan.destinations:
        if one.step.action is Action.UPDATE and one.step.id:
            await update_events(stripe, one.step.id, one.events)
            yield one.step
        elif one.step.action is Action.CREATE:
            with stop.put_off():
                id = await _made(plan, one, stripe)
            yield replace(one.step, id=id)


async def _made(plan: WebhookPlan, one: Destination, stripe: StripeWriter) -> str:
    """Make a destination, put its secret into the file, and return its id."""
    made = await create_destination(stripe, plan.url, replace(one.wanted, events=one.events))
    if made.secret is None:
        raise _lost(made.id, "Stripe did not say its signing secret", plan.file)
    try:
        plan.file.add(made.secret)
    except ConfigurationError as error:
        raise _lost(made.id, f"its signing secret is lost, since {error.message}", plan.file) from error
    return made.id


def _destination(wanted: Wanted, url: str, there: Sequence[DestinationData]) -> Destination:
    same = [one for one in there if one.is_for(url, wanted)]
    what = f"{wanted.shown} for {url}: {', '.join(wanted.events)}"
    if not same:
        return Destination(wanted, Step(Kind.EVENT_DESTINATION, Action.CREATE, None, what), wanted.events)
    # One that lacks nothing and works, if there is one.
    best = min(same, key=lambda one: (one.status != "enabled", len(one.missing(wanted.events))))
    if best.status != "enabled":
        return Destination(wanted, found(Kind.EVENT_DESTINATION, best.id, what, [f"is {best.status}"]), wanted.events)
    missing = best.missing(wanted.events)
    if missing:
        said = f"{wanted.shown} for {url}: also {', '.join(missing)}"
        step = Step(Kind.EVENT_DESTINATION, Action.UPDATE, best.id, said)
        return Destination(wanted, step, [*best.enabled_events, *missing])
    return Destination(wanted, found(Kind.EVENT_DESTINATION, best.id, what, []), wanted.events)


def _lost(id: str, why: str, file: SecretsFile) -> MeterSyncError:
    return MeterSyncError(
        f"the event destination {id} was made, but {why}",
        f"roll its secret in Stripe's Dashboard and put the new one into {file.path}, in a line of its own; or delete "
        "the destination there and run this again",
        code="setup_secret",
    )
