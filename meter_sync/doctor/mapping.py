"""The section of the mapping: whether each metered price finds its meter, and each item its subject and their usage."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from meter_sync.core.metering.mapping import Grouping, meter_row_of_price, unused_rows
from meter_sync.core.metering.queries import Need, Query, Unanswered
from meter_sync.core.outcomes import HARMLESS, Reason
from meter_sync.core.planning.obstacles import starts_later
from meter_sync.core.planning.prepare import Metering
from meter_sync.core.planning.stages import Metered, Result
from meter_sync.doctor.finding import Finding, named, obstacle, of_error, ok, problem, warning
from meter_sync.doctor.installation import Installation
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import open_ledger_read_only
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable, unreachable
from meter_sync.stripe_api.not_understood import Oddities
from meter_sync.stripe_api.prices import metered_prices, to_price
from meter_sync.sync.job import Job, open_job
from meter_sync.sync.list import list_to_compare, meters_finer_than
from meter_sync.sync.periods import Prepared
from meter_sync.sync.progress import NoProgress
from meter_sync.sync.query import query_totals
from meter_sync.sync.request import Request, run_record

_EVER = datetime(2000, 1, 1, tzinfo=UTC)
"""Before all usage that there is."""

_IDS = {
    Reason.NO_METER_MAPPING: "price_mapping",
    Reason.METER_NOT_FOUND: "openmeter_meter",
    Reason.METER_STARTS_LATER: "openmeter_meter",
    Reason.AGGREGATION_MISMATCH: "billing_meter",
    Reason.UNSUPPORTED_METER: "billing_meter",
    Reason.NO_SUBJECT: "subject",
}
"""The id of the check of which a reason is the outcome; the rest is about the subscription."""

_IDS_OF_ERRORS = {"stripe_permission": "stripe_permission", "ledger_bound": "ledger", "stripe_key": "stripe_key"}

_REMEDY = "do what the message says; meter-sync run --dry-run shows each item"


async def examine_mapping(installation: Installation) -> AsyncIterator[Finding]:
    """Yield what keeps listed items from being billed, and prices from being billed once they are subscribed to.

    Items are listed as a dry run lists them.
    """
    settings = installation.settings
    request = Request(dry_run=True)
    run = run_record(request, settings.schedule, installation.clock())
    try:
        with open_ledger_read_only(settings.ledger, settings.scope) as ledger:
            stop, clock = installation.stop, installation.clock
            async with open_job(settings, request, run, ledger, clock, stop, NoProgress()) as job:
                async for finding in _examine(installation, job):
                    yield finding
    except StripeUnavailable as failure:
        yield of_error("price_mapping", unreachable(failure))
    except StripeRefused as refusal:
        said = f"Stripe refused to list prices: {refusal.message}"
        yield obstacle("price_mapping", said, "correct what Stripe names; else report it with this message")
    except MeterSyncError as error:
        yield of_error(
            _IDS_OF_ERRORS.get(error.code, "openmeter" if "openmeter" in error.code else "price_mapping"), error
        )


async def _examine(installation: Installation, job: Job) -> AsyncIterator[Finding]:
    listed, metering = await list_to_compare(job)
    metered = [one for one in listed.items if isinstance(one, Metered)]
    yield _count(listed.items, metered, is_shadow=job.rules.are_for_originals)
    for finding in (*_not_billed(job, listed), *_rows(listed, metering), *_windows(installation, listed)):
        yield finding
    async for finding in _unmapped_prices(job, listed):
        yield finding
    async for finding in _unused_subjects(job, metered):
        yield finding


def _count(items: Sequence[Metered | Result], metered: Sequence[Metered], *, is_shadow: bool) -> Finding:
    if not items and is_shadow:
        return problem("subscription", "there is no copy in the shadow account", "meter-sync setup shadow makes them")
    if not items:
        said = "no living subscription has a metered item: there is nothing to bill"
        return warning("subscription", said, "if there should be, check that the key is of the right account and mode")
    prices = {one.item.price.id for one in metered}
    customers = {one.item.subscription.customer.id for one in metered}
    said = f"{len(metered)} of {len(items)} metered items find their meter and their subject"
    return ok("price_mapping", f"{said} (prices: {len(prices)}, customers: {len(customers)})")


def _not_billed(job: Job, listed: Prepared) -> Iterator[Finding]:
    """Yield why items are not billed, each reason and message once."""
    results = [one for one in listed.items if isinstance(one, Result)]
    remembered = listed.memory.remembered
    results += [
        later
        for one in listed.items
        if isinstance(one, Metered) and (later := starts_later(one.found, remembered.get(one.item.id), job.policy))
    ]
    about: defaultdict[tuple[Reason, str], list[str]] = defaultdict(list)
    for one in results:
        if one.reason and one.reason not in HARMLESS:
            about[one.reason, one.message or ""].append(f"{one.item.id} of {one.item.subscription.customer.id}")
    for (reason, message), items in about.items():
        yield problem(_IDS.get(reason, "subscription"), f"{reason}: {message}", _REMEDY, named(items))


def _rows(listed: Prepared, metering: Metering) -> Iterator[Finding]:
    """Yield the `[[meters]]` rows that name no meter that there is, or are for no listed item."""
    for number, row in enumerate(metering.rules.rows, start=1):
        if row.openmeter and row.openmeter not in {*metering.meters, *metering.unknown_meters}:
            said = f"[[meters]] row {number} names the meter {row.openmeter!r}, which OpenMeter does not have"
            yield problem("openmeter_meter", said, "create the meter, or correct the row", row.openmeter)
    for number, row in unused_rows((one.item for one in listed.items), metering.rules):
        said = f"[[meters]] row {number} is for no item of a living subscription: {row.selector}"
        yield warning("price_mapping", said, "correct its selector, or take it out", row.selector)


def _windows(installation: Installation, listed: Prepared) -> Iterator[Finding]:
    for meter in meters_finer_than(installation.settings.schedule, listed.items):
        said = f"billing meter {meter.id} ({meter.event_name}) has windows of one hour, and runs are a day apart"
        remedy = "run hourly, or keep the closing run: else the last hours of a period may come too late"
        yield warning("billing_meter", said, remedy, meter.id)


async def _unmapped_prices(job: Job, listed: Prepared) -> AsyncIterator[Finding]:
    """Yield the metered prices that nobody is subscribed to yet, and of which the first item would not be billed."""
    subscribed = {one.item.price.id for one in listed.items}
    for data in await metered_prices(job.stripe, Oddities()):
        price = to_price(data)
        if data.active and price.id not in subscribed and meter_row_of_price(price, job.rules) is None:
            said = (
                f"metered price {price.id} names no meter, and has no subscription yet: its first would not be billed"
            )
            remedy = f"give it the metadata {job.rules.meter_key}, or a [[meters]] row (with ignore = true if need be)"
            yield warning("price_mapping", said, remedy, price.id)


async def _unused_subjects(job: Job, metered: Sequence[Metered]) -> AsyncIterator[Finding]:
    """Yield the meters that never had usage of listed subjects: events may name these otherwise."""
    needs = [
        Need(one.item.id, one.meter.slug, (), one.subjects, _EVER, job.run.as_of, one.meter.aggregation, one.grouping)
        for one in metered
    ]
    usages = await query_totals(needs, job.openmeter, job.progress)
    used, unused = defaultdict[str, list[Metered]](list), defaultdict[str, list[Metered]](list)
    for one in metered:
        usage = usages.get(one.item.id)
        if isinstance(usage, Unanswered):
            yield warning("subject", usage.message, "look at the meter in OpenMeter", one.meter.slug)
        else:
            (used if usage else unused)[one.meter.slug].append(one)
    for meter, items in unused.items():
        whose = sorted({subject for one in items for subject in one.subjects})
        if meter in used:
            yield _some_unused(meter, whose)
        else:
            yield await _all_unused(job, meter, whose, items[0].grouping)
    for meter in used.keys() - unused.keys():
        yield ok("subject", f"each subject of meter {meter} has had usage", meter)


def _some_unused(meter: str, whose: Collection[str]) -> Finding:
    said = f"meter {meter} has never had usage of {named(whose)}"
    remedy = "if they use it, events name them otherwise: compare with the subjects in OpenMeter"
    return warning("subject", said, remedy, meter)


async def _all_unused(job: Job, meter: str, whose: Collection[str], grouping: Grouping) -> Finding:
    """Say of a meter that knows no subject of any item whether it knows others: then events name them otherwise."""
    others: Mapping[str, object] = {}
    if grouping is Grouping.SUBJECT:
        answer = await job.openmeter.usage(Query(meter, (), _EVER, job.run.as_of, None))
        others = {} if isinstance(answer, Unanswered) else {name: value for name, value in answer.items() if value}
    if not others:
        return warning("subject", f"meter {meter} has no usage yet", "send a first event, and look again", meter)
    said = (
        f"meter {meter} has usage of {named(sorted(others))}, and never of those who are billed by it: {named(whose)}"
    )
    return problem("subject", said, "set mapping.subject to what events name as their subject", meter)
