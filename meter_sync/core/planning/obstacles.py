"""Why an item that was reported before must not be written now."""

from dataclasses import replace

from meter_sync.core.billing.quantity import InvalidUsage
from meter_sync.core.metering.mapping import Method
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.memory import Remembered
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import held
from meter_sync.core.planning.stages import Findings, Result
from meter_sync.core.text import utc


def obstacle(found: Findings, method: Method, remembered: Remembered, policy: Policy) -> Result | None:
    """Given an item, its method and what is remembered of it, return what keeps it from being written, or None."""
    newest = remembered.additions.newest
    if remembered.rejected is not None:
        is_in_doubt = newest is not None and newest.in_doubt
        said = "may have been rejected" if is_in_doubt else "was reported, and then rejected by Stripe"
        message = f"its usage {said}: {remembered.rejected}; remove the cause: the next run reports it again"
        return held(found, Reason.REJECTED, message)
    if newest and not newest.is_delivered:
        return unsettled(found)
    return (
        made_anew(found, remembered, policy)
        or _subjects_changed(found, remembered, policy)
        or _method_changed(found, method, remembered.method, policy)
    )


def _subjects_changed(found: Findings, remembered: Remembered, policy: Policy) -> Result | None:
    """Hold an item that has lost a subject within the period: what that one used would be billed no more."""
    gone = remembered.lost(found.subjects, found.grouping)
    if not gone or not remembered.quantity or Reason.MAPPING_CHANGED in policy.allowed:
        return None
    return held(
        found,
        Reason.MAPPING_CHANGED,
        f"its subjects changed within the period, from {', '.join(remembered.subjects)} to "
        f"{', '.join(found.subjects)}; with --allow mapping_changed what the earlier ones had used until its last "
        "report stays billed, and the later ones' usage is billed from then on",
    )


def made_anew(found: Findings, remembered: Remembered, policy: Policy) -> Result | None:
    """Return the hold of an item whose OpenMeter meter is another one by now, under the same slug, or None.

    It has none of the events of before, or counts them in another way.
    """
    now, then = found.meter, remembered.made_of
    if now is None or then is None or now.slug != then.slug:
        return None
    if (now.id, now.aggregation) == (then.id, then.aggregation):
        return None
    if Reason.MAPPING_CHANGED in policy.allowed:
        return None
    return held(
        found,
        Reason.MAPPING_CHANGED,
        f"OpenMeter's meter {now.slug} was made anew within the period, from {then.aggregation} {then.id} to "
        f"{now.aggregation} {now.id}: nothing was written; the new one begins with the next period, or now with "
        "--allow mapping_changed",
    )


def starts_later(found: Findings, remembered: Remembered | None, policy: Policy) -> Result | None:
    """Return the hold of an item whose OpenMeter meter counts events only from a later instant on, or None.

    OpenMeter answers a question about the time before that with less usage, and does not say so (server source). Who
    has allowed it is asked again only once the meter begins at another instant.
    """
    meter, since = found.meter, found.own[0].start if found.own else None
    begins = meter.events_from if meter else None
    if meter is None or begins is None or since is None or begins <= since:
        return None
    is_known = remembered is not None and remembered.made_of is not None and remembered.made_of.events_from == begins
    if is_known or Reason.METER_STARTS_LATER in policy.allowed:
        return None
    return held(
        found,
        Reason.METER_STARTS_LATER,
        f"OpenMeter's meter {meter.slug} counts events only from {utc(begins)} on, and this item's usage begins at "
        f"{utc(since)}: nothing was written; what was used before is not known. Bill what it has counted with --allow "
        "meter_starts_later, and the rest by hand, or name a meter that has counted all along",
    )


def fell_back(found: Findings, method: Method, before: Remembered | None, policy: Policy) -> Result | None:
    """Given an item that metadata maps, and how it was reported before its period, hold it if that was another way.

    The `[[meters]]` row that was for its price is so no more, as when a lookup key moves to another price in Stripe:
    the usage would be billed in another unit, and nobody has said so. A change of the row itself is somebody's wish.
    """
    if not found.row.is_by_metadata or before is None or before.price != found.item.price.id:
        return None
    then = replace(before.method, way=method.way, stripe_meter=method.stripe_meter)
    if then == method or Reason.MAPPING_CHANGED in policy.allowed:
        return None
    return held(
        found,
        Reason.MAPPING_CHANGED,
        f"no [[meters]] row is for its price any more, and metadata maps it: it was reported by {then.in_words}, and "
        f"would be by {method.in_words} from this period on; correct the rows, or the lookup key, or take the new way "
        "with --allow mapping_changed",
    )


def unsettled(found: Findings) -> Result:
    """Return the hold of an item of which it is not known whether its last addition arrived."""
    return held(
        found,
        Reason.UNSETTLED,
        "whether an earlier addition arrived cannot be told yet: nothing was added; the next runs ask again, and "
        "know within a day",
    )


def later_total(later: int, quantity: int) -> str:
    """Return what to say of an item for which an event stands that this ledger does not know, stamped later."""
    return (
        f"Stripe holds an event of {later} that this ledger does not know, stamped later than one that is sent now: "
        f"{quantity} would not count beside it and was not sent; the next runs report it once that time has passed. "
        "Does another ledger or program report for this customer, or is a clock wrong?"
    )


def invalid(found: Findings, error: InvalidUsage) -> Result:
    """Return the hold of an item whose usage cannot be billed."""
    return held(found, Reason.INVALID_USAGE, f"{error}; nothing was written, look at the meter's events")


def _method_changed(found: Findings, now: Method, then: Method, policy: Policy) -> Result | None:
    """Hold a method that changed within the period. That of Stripe's own side is changed by no permission.

    What was written for the old price can neither be set to zero nor counted for the new one.
    """
    if now == then:
        return None
    if (now.way.target, now.stripe_meter) != (then.way.target, then.stripe_meter):
        return held(
            found,
            Reason.MAPPING_CHANGED,
            f"its price moved within the period, from {_place(then)} to {_place(now)}: it is reported again from the "
            "next period on; look at this period's invoice, which may lack usage since the change",
        )
    if Reason.MAPPING_CHANGED in policy.allowed:
        return None
    return held(
        found,
        Reason.MAPPING_CHANGED,
        f"the way of metering changed within the period, from {then.in_words} to {now.in_words}; the new one "
        "begins with the next period, or now with --allow mapping_changed",
    )


def _place(method: Method) -> str:
    return f"billing meter {method.stripe_meter}" if method.stripe_meter else "usage records"
