"""The section of the webhook: whether Stripe delivers what `meter-sync webhook` needs, and its secrets are there."""

from collections.abc import AsyncIterator, Iterator, Sequence

from meter_sync.doctor.finding import Finding, named, of_error, ok, problem, skipped, warning
from meter_sync.doctor.installation import Installation
from meter_sync.errors import MeterSyncError
from meter_sync.stripe_api.connection import PermissionMissing, StripeRefused, StripeUnavailable, unreachable
from meter_sync.stripe_api.event_destinations import CONNECTED, DestinationData, Wanted, event_destinations
from meter_sync.sync.job import open_reader
from meter_sync.webhook.events import OF_CONNECTED, SNAPSHOTS, THIN

_ID = "webhook_endpoint"
_REMEDY = "meter-sync setup webhook makes and completes destinations"
_NOT_KNOWN = "give the key read on Webhook Endpoints, or look at the event destinations in Stripe's Dashboard"


async def examine_webhook(installation: Installation) -> AsyncIterator[Finding]:
    """Yield what the event destinations lack, where a webhook is configured by its secret.

    Those of a connected account are its platform's, for events of connected accounts, and so read without its name.
    """
    settings = installation.settings
    secrets = len(settings.stripe.webhook_secret)
    if not secrets:
        yield skipped(_ID, "no secret of webhooks is configured: what ends between two runs is left to closing runs")
        return
    snapshots, thin = Wanted("snapshot", SNAPSHOTS), Wanted("thin", THIN)
    if installation.tells_platform:
        settings = settings.model_copy(update={"stripe": settings.stripe.model_copy(update={"account": None})})
        snapshots, thin = Wanted("snapshot", OF_CONNECTED, CONNECTED), Wanted("thin", THIN, CONNECTED)
    try:
        async with open_reader(settings, installation.clock, installation.stop) as stripe:
            there = await event_destinations(stripe)
    except PermissionMissing:
        yield warning(_ID, "the key may not read event destinations: what they lack is not known", _NOT_KNOWN)
    except StripeUnavailable as failure:
        yield of_error(_ID, unreachable(failure))
    except StripeRefused as refusal:
        yield warning(_ID, f"Stripe does not say which event destinations there are: {refusal.message}", _NOT_KNOWN)
    except MeterSyncError as error:
        yield of_error(_ID, error)
    else:
        for finding in (*_of(there, snapshots), *_of(there, thin), *_secrets(there, secrets)):
            yield finding


def _of(there: Sequence[DestinationData], of: Wanted) -> Iterator[Finding]:
    """Yield what there is to say of the destination for one kind of events: the best one, if there are several."""
    payload, wanted = of.payload, of.events
    same = [one for one in _addressed(there, of) if set(wanted) & {*one.enabled_events, "*"}]
    if not same:
        said = f"no event destination delivers {of.shown} that the webhook reads: {', '.join(wanted)}"
        yield (problem if payload == "snapshot" else warning)(_ID, said, _REMEDY, payload)
        return
    best = min(same, key=lambda one: (one.status != "enabled", len(one.missing(wanted))))
    missing = best.missing(wanted)
    version = f", in version {best.snapshot_api_version}" if best.snapshot_api_version else ""
    if best.status != "enabled":
        said = f"event destination {best.id} is {best.status}: nothing is delivered to {best.url}"
        yield problem(_ID, said, "enable it in Stripe's Dashboard", best.id)
    elif missing:
        yield problem(_ID, f"event destination {best.id} does not get {', '.join(missing)}", _REMEDY, best.id)
    else:
        yield ok(_ID, f"event destination {best.id} delivers {of.shown} to {best.url}{version}", best.id)


def _addressed(there: Sequence[DestinationData], of: Wanted) -> list[DestinationData]:
    return [one for one in there if one.url is not None and one.is_for(one.url, of)]


def _secrets(there: Sequence[DestinationData], secrets: int) -> Iterator[Finding]:
    """Yield that a secret must be lacking: each destination signs with one of its own."""
    ours = [
        one
        for payload, wanted in (("snapshot", SNAPSHOTS), ("thin", THIN))
        for one in there
        if one.event_payload == payload and set(wanted) & set(one.enabled_events)
    ]
    if secrets < len(ours):
        said = f"{secrets} secrets are configured, for {len(ours)} event destinations: {named(one.id for one in ours)}"
        remedy = "add the secret of each, in a line of its own; one that is lost is rolled in Stripe's Dashboard"
        yield warning(_ID, said, remedy, "secret")
