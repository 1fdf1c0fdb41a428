"""Looking in OpenMeter for usage that nobody bills: one query for each meter, and few more where it needs them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from meter_sync.config import Settings
from meter_sync.core.metering.queries import Unanswered
from meter_sync.core.outcomes import ExitCode
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.prepare import Metering, prepare
from meter_sync.core.telling.billed_twice import Uses, uses_of
from meter_sync.core.telling.unbilled_usage import (
    LOOKED_AT,
    Billing,
    UnbilledSubject,
    UnbilledUsage,
    billing_of_meters,
    filtered_query_of,
    is_filtered,
    needs_of,
    query_of,
    together,
    unbilled_subjects,
    unbilled_usage,
)
from meter_sync.errors import LedgerError
from meter_sync.ledger import Ledger
from meter_sync.openmeter_api.client import OpenMeter
from meter_sync.sync.job import Job
from meter_sync.sync.list import as_known
from meter_sync.sync.periods import Prepared
from meter_sync.sync.progress import Progress
from meter_sync.sync.query import query_totals

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Unbilled:
    """Usage of the last month that nobody bills."""

    subjects: list[UnbilledSubject] = field(default_factory=list)
    usage: list[UnbilledUsage] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Of which meters it is not known, and why: what is not known is no all-clear."""

    @property
    def exit_codes(self) -> tuple[ExitCode, ...]:
        """The codes of what was found and of what is not known."""
        found = (ExitCode.ATTENTION,) if self.subjects or self.usage else ()
        return (*found, ExitCode.PARTIAL) if self.unknown else found


@dataclass(frozen=True, slots=True)
class Billed:
    """What an account bills of the usage in its OpenMeter."""

    account: str
    as_of: datetime
    """The instant that it is about."""
    meters: Sequence[Billing]
    """Whose usage of each meter."""
    uses: Uses
    """For which time."""
    metering: Metering
    """What its OpenMeter has, and how its items find it there."""


async def find_unbilled(job: Job, listed: Prepared, metering: Metering, ignored: Sequence[str]) -> Unbilled:
    """Given all listed items, return the usage of their meters that none of them bills, by meter.

    `ignored` are patterns of subjects. Raise ConfigurationError.
    """
    as_of, found = job.run.as_of, Unbilled()
    over = [one.item for one in job.ledger.listed.ended_since(as_of - LOOKED_AT, as_of) if one.item.is_read]
    for billing in billing_of_meters([one.item for one in listed.items], over, metering):
        await look_at_meter(found, job.openmeter, job.progress, [billing], [billing], ignored, as_of)
    return found


async def look_at_meter(
    found: Unbilled,
    openmeter: OpenMeter,
    progress: Progress,
    billings: Sequence[Billing],
    about: Sequence[Billing],
    ignored: Sequence[str],
    as_of: datetime,
) -> None:
    """Find out which usage of a meter none of the accounts bills that have it in common.

    `about` are those of them whose filters are looked at. Raise ConfigurationError.
    """
    billing = together(billings)
    answer = await openmeter.usage(query_of(billing, as_of))
    usages = {} if isinstance(answer, Unanswered) else answer
    since_they_left = await query_totals(needs_of(billing, usages, as_of), openmeter, progress)
    answers: list[object] = [answer, *usages.values(), *since_they_left.values()]
    found.subjects.extend(unbilled_subjects(billing, usages, since_they_left, ignored, as_of))
    if query := filtered_query_of(about, as_of):
        by_dimensions = await openmeter.dimension_usage(query)
        answers.append(by_dimensions)
        for one in filter(is_filtered, about):
            found.usage.extend(unbilled_usage(one, query, by_dimensions, ignored))
    why = next((one.message for one in answers if isinstance(one, Unanswered)), None)
    if why:
        log.warning("unbilled_usage_unread", meter=billing.meter, message=why)
        found.unknown.append(f"which usage of meter {billing.meter} nobody bills is not known: {why}")


def billed_as_listed(job: Job, settings: Settings, listed: Prepared, metering: Metering) -> Billed:
    """Given all listed items of an account, return what it bills. In shadow mode it bills nobody, for no time."""
    as_of = job.run.as_of
    over = [one for one in job.ledger.listed.ended_since(as_of - LOOKED_AT, as_of) if one.item.is_read]
    ended = prepare([as_known(one, as_of) for one in over], (), metering, Memory(), as_of)
    items = [one.item for one in listed.items]
    meters = billing_of_meters(items, [one.item for one in over], metering, settings.account)
    uses = {} if settings.is_shadow else uses_of([*listed.items, *ended])
    return Billed(settings.account, as_of, meters, uses, metering)


def billed_as_known(ledger: Ledger, account: str, settings: Settings, there: Billed) -> Billed:
    """Return what an account bills as its runs have listed it last, mapped by what is said now.

    `there` has what is in the OpenMeter that both have in common. Raise LedgerError where an item cannot be read.
    """
    as_of, since = there.as_of, there.as_of - LOOKED_AT
    metering = replace(there.metering, rules=settings.mapping_rules, customers={}, subjects_then={})
    newest, over = ledger.listed.newest_since(since), ledger.listed.ended_since(since, as_of)
    every = {one.item.key: one for one in (*newest, *over)}
    if unread := next((one.item for one in every.values() if not one.item.is_read), None):
        raise LedgerError(unread.not_understood or unread.id)
    # Its next run lists the next period of what goes on.
    living = [one.item for one in newest if one.item.is_followed or one.item.period.end > as_of]
    prepared = prepare([as_known(one, as_of) for one in every.values()], (), metering, Memory(), as_of)
    meters = billing_of_meters(living, [one.item for one in over], metering, account)
    return Billed(account, as_of, meters, {} if settings.is_shadow else uses_of(prepared), metering)
