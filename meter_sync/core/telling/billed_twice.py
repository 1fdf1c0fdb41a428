"""Usage that two accounts bill: within one, ownership decides between items; over accounts nobody does."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import Period
from meter_sync.core.metering.filters import are_apart
from meter_sync.core.metering.mapping import Filter, Grouping
from meter_sync.core.planning.own import claim_of
from meter_sync.core.planning.stages import Metered, Result


@dataclass(frozen=True, slots=True)
class Place:
    """Where usage is in an OpenMeter."""

    meter_id: str
    meter: str
    """The slug of the meter."""
    grouping: Grouping
    subject: str


@dataclass(frozen=True, slots=True)
class Use:
    """What an item bills of the usage at a place: at some time, and of what its filter admits."""

    filter: Filter
    stretches: Sequence[Period]


Uses = Mapping[Place, Sequence[Use]]
"""What an account bills, by where that usage is."""


@dataclass(frozen=True, slots=True)
class BilledTwice:
    """A subject whose usage of a meter several accounts bill for the same time."""

    meter: str
    subject: str
    accounts: tuple[str, ...]


def uses_of(items: Iterable[Metered | Result]) -> Uses:
    """Given the items of an account, return what is billed of which usage.

    Left out is what costs nothing or is nobody's matter here: trials, what ended without an invoice or may have,
    `shared = true`, `report = false`, and items that are skipped.
    """
    found = defaultdict[Place, list[Use]](list)
    for one in items:
        if isinstance(one, Metered) and (stretches := _billed(one)):
            use = Use(one.row.filter, stretches)
            for subject in one.subjects:
                found[Place(one.meter.id, one.meter.slug, one.grouping, subject)].append(use)
    return found


def _billed(one: Metered) -> Sequence[Period]:
    claim = claim_of(one.listed, one, ())
    if claim is None or not claim.is_billed or claim.is_shared or not one.row.report:
        return ()
    # Usage of a subscription that is canceled at once is on no invoice, unless that was asked for.
    is_gone = one.listed.intake is Intake.GRACE and not one.item.is_followed and not one.listed.is_invoiced
    return () if is_gone else one.own if claim.settled is None else claim.settled


def billed_twice(of_accounts: Mapping[str, Uses], about: Container[str]) -> list[BilledTwice]:
    """Given what accounts of one OpenMeter bill, return the subjects that several bill for the same time.

    Named is only what one of the accounts bills that it is `about`; the order is that of meters and subjects.
    """
    at_place = defaultdict[Place, list[str]](list)
    for account, uses in of_accounts.items():
        for place in uses:
            at_place[place].append(account)
    found = []
    for place, several in at_place.items():
        pairs = [
            pair
            for pair in combinations(several, 2)
            if (pair[0] in about or pair[1] in about) and _meet(*(of_accounts[one][place] for one in pair))
        ]
        if pairs:
            accounts = sorted({one for pair in pairs for one in pair})
            found.append(BilledTwice(place.meter, place.subject, tuple(accounts)))
    return sorted(found, key=lambda one: (one.meter, one.subject))


def _meet(ones: Sequence[Use], others: Sequence[Use]) -> bool:
    """Say whether two accounts bill some of the same usage."""
    return any(
        one.start < other.end and other.start < one.end
        for its_filter, its in _by_filter(ones).items()
        for other_filter, theirs in _by_filter(others).items()
        if not are_apart(dict(its_filter), dict(other_filter))
        for one in its
        for other in theirs
    )


def _by_filter(uses: Sequence[Use]) -> Mapping[Filter, Sequence[Period]]:
    found = defaultdict[Filter, list[Period]](list)
    for use in uses:
        found[use.filter].extend(use.stretches)
    return found
