"""Looking in OpenMeter for usage that nobody bills: one query for each meter, and few more where it needs them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from meter_sync.core.metering.queries import Unanswered
from meter_sync.core.planning.prepare import Metering
from meter_sync.core.telling.unbilled_usage import (
    LOOKED_AT,
    UnbilledSubject,
    UnbilledUsage,
    billing_of_meters,
    filtered_query_of,
    needs_of,
    query_of,
    unbilled_subjects,
    unbilled_usage,
)
from meter_sync.sync.job import Job
from meter_sync.sync.periods import Prepared
from meter_sync.sync.query import query_totals

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Unbilled:
    """Usage of the last month that nobody bills."""

    subjects: list[UnbilledSubject] = field(default_factory=list)
    usage: list[UnbilledUsage] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Of which meters it is not known, and why: what is not known is no all-clear."""


async def find_unbilled(job: Job, listed: Prepared, metering: Metering, ignored: Sequence[str]) -> Unbilled:
    """Given all listed items, return the usage of their meters that none of them bills, by meter.

    `ignored` are patterns of subjects. Raise ConfigurationError.
    """
    as_of, found = job.run.as_of, Unbilled()
    over = job.ledger.listed.over(as_of - LOOKED_AT, as_of)
    for billing in billing_of_meters([one.item for one in listed.items], over, metering):
        answer = await job.openmeter.usage(query_of(billing, as_of))
        usages = {} if isinstance(answer, Unanswered) else answer
        since_they_left = await query_totals(needs_of(billing, usages, as_of), job.openmeter, job.progress)
        answers: list[object] = [answer, *usages.values(), *since_they_left.values()]
        found.subjects.extend(unbilled_subjects(billing, usages, since_they_left, ignored, as_of))
        if query := filtered_query_of(billing, as_of):
            by_dimensions = await job.openmeter.dimension_usage(query)
            answers.append(by_dimensions)
            found.usage.extend(unbilled_usage(billing, query, by_dimensions, ignored))
        why = next((one.message for one in answers if isinstance(one, Unanswered)), None)
        if why:
            log.warning("unbilled_usage_unread", meter=billing.meter, message=why)
            found.unknown.append(f"which usage of meter {billing.meter} nobody bills is not known: {why}")
    return found
