"""What no account shows by itself, where several share an OpenMeter: usage that none bills, and that two bill."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from meter_sync.config import Settings
from meter_sync.core.outcomes import ExitCode, gravest
from meter_sync.core.scope import Scope
from meter_sync.core.telling.billed_twice import BilledTwice, billed_twice
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Ledger, Place, open_ledgers_read_only, used_books
from meter_sync.net.stop import Stop
from meter_sync.sync.allowance import sharing_openmeter
from meter_sync.sync.job import Clock, open_openmeter
from meter_sync.sync.progress import NoProgress
from meter_sync.sync.request import Request, run_record
from meter_sync.sync.unbilled import Billed, Unbilled, billed_as_known, look_at_meter

_NAMED = 3
_BY_CUSTOMERS = "it bills customers of OpenMeter's, which say nothing of subjects"


@dataclass(frozen=True, slots=True)
class Account:
    """One of several accounts."""

    name: str
    settings: Settings | None
    """None where its configuration is wrong: it may share any OpenMeter."""
    billed: Billed | None = None
    """What it bills, where it was listed just now."""
    is_asked: bool = True
    """Whether it was to be listed: where it was not, what the ledger knows of it counts."""


@dataclass(frozen=True, slots=True)
class Across:
    """What was found out over several accounts."""

    unbilled: Unbilled | None = None
    """Usage that none of them bills; None where it was not looked for."""
    is_known: bool = False
    """Whether that is known of any OpenMeter, at least."""
    billed_twice: Sequence[BilledTwice] | None = None
    """Usage that several of them bill; None where it was not looked for."""
    openmeter_requests: int = 0

    @property
    def exit_code(self) -> ExitCode:
        """The code to exit with, for this alone."""
        codes = self.unbilled.exit_codes if self.unbilled else ()
        return gravest(ExitCode.DONE, *codes, *([ExitCode.ATTENTION] if self.billed_twice else []))


@dataclass(slots=True, eq=False)
class _OpenMeter:
    """An OpenMeter, with the accounts that share it: those who ask by one key, or whose meters have the same ids."""

    url: str
    keys: set[str | None]
    meter_ids: set[str]
    listed: list[tuple[Settings, Billed]]
    known: list[Billed] = field(default_factory=list)
    """What others bill there, as the ledger knows it."""
    unknown: list[str] = field(default_factory=list)
    """Of whom it is not known what they bill there, and why."""

    def is_of(self, settings: Settings, meter_ids: Iterable[str]) -> bool:
        """Say whether an account has its usage there, from whose books or OpenMeter these meters are."""
        is_there = settings.openmeter.url == self.url
        return is_there and (_key_of(settings) in self.keys or not self.meter_ids.isdisjoint(meter_ids))


async def look_across(
    place: Place, accounts: Sequence[Account], clock: Clock, stop: Stop, *, for_unbilled: bool
) -> Across:
    """Say what is billed by none of the accounts, and what by several, of each OpenMeter that one listed just now has.

    `for_unbilled` says whether OpenMeter is asked for what nobody bills. What goes wrong makes that unknown; nothing is
    raised for it.
    """
    openmeters = _openmeters(accounts)
    if not openmeters:
        return Across()
    _add_others(place, openmeters, [one for one in accounts if one.billed is None])
    twice = [found for one in openmeters for found in _billed_twice(one)]
    if not for_unbilled:
        return Across(billed_twice=twice)
    unbilled, asked, is_known = Unbilled(), 0, False
    looked_at = [one for one in openmeters if any(_goes_by_subjects(settings) for settings, _ in one.listed)]
    for one in looked_at:
        why, before = [*one.unknown, *_not_by_subjects(one)], len(unbilled.unknown)
        try:
            if not why:
                asked += await _look_at(one, unbilled, clock, stop)
        except MeterSyncError as error:
            why = [error.message]
        if why:
            said = f"which usage in the OpenMeter of {_some(_names(one))} nobody bills is not known"
            unbilled.unknown.append(f"{said}: {'; '.join(why)}")
        is_known = is_known or len(unbilled.unknown) == before
    return Across(unbilled if looked_at else None, is_known, twice, asked)


def _openmeters(accounts: Iterable[Account]) -> list[_OpenMeter]:
    """Return the OpenMeters of the accounts that were listed just now, each with all of these that share it."""
    found: list[_OpenMeter] = []
    for one in accounts:
        if one.settings is None or one.billed is None:
            continue
        ids = {billing.meter_id for billing in one.billed.meters}
        same = [each for each in found if each.is_of(one.settings, ids)]
        others = [each for each in found if each not in same]
        merged = _OpenMeter(one.settings.openmeter.url, {_key_of(one.settings)}, ids, [])
        for each in same:
            merged.keys |= each.keys
            merged.meter_ids |= each.meter_ids
            merged.listed += each.listed
        merged.listed.append((one.settings, one.billed))
        found = [*others, merged]
    return found


def _add_others(place: Place, openmeters: Sequence[_OpenMeter], accounts: Sequence[Account]) -> None:
    """Add to each OpenMeter what the accounts bill there that were not listed, or that this is not known."""
    at_address = {
        one.name: [each for each in openmeters if one.settings is None or one.settings.openmeter.url == each.url]
        for one in accounts
    }
    others = [one for one in accounts if at_address[one.name]]
    if not others:
        return
    try:
        with open_ledgers_read_only(place) as books_of:
            for one in others:
                _add_other(place, books_of, at_address[one.name], one)
    except MeterSyncError as error:
        for each in openmeters:
            each.unknown.append(error.message)


def _add_other(
    place: Place, books_of: Callable[[Scope], Ledger], openmeters: Sequence[_OpenMeter], one: Account
) -> None:
    """Add what an account bills in those of the OpenMeters at its address that it has its usage in."""
    settings = one.settings
    if settings is None:
        for each in openmeters:
            each.unknown.append(f"the configuration of account {one.name} is wrong")
        return
    ledger, meter_ids, why = None, frozenset[str](), ""
    try:
        ledger = books_of(used_books(place, books_of, settings.scope))
        meter_ids = ledger.overview.meter_ids()
    except MeterSyncError as error:
        why = "no run has listed whom it bills" if error.code == "ledger_missing" else error.message
    for each in openmeters:
        if each.is_of(settings, meter_ids):
            try:
                each.known.append(_billed_by(one, settings, ledger, why, each.listed[0][1]))
            except MeterSyncError as error:
                each.unknown.append(f"account {one.name}: {error.message}")


def _billed_by(one: Account, settings: Settings, ledger: Ledger | None, why: str, there: Billed) -> Billed:
    """Return what an account bills in an OpenMeter, by its books, or raise MeterSyncError with why it is not known."""
    if one.is_asked:
        raise MeterSyncError("it could not be listed")
    if not _goes_by_subjects(settings):
        raise MeterSyncError(_BY_CUSTOMERS)
    if ledger is None:
        raise MeterSyncError(why)
    return billed_as_known(ledger, one.name, settings, there)


def _billed_twice(openmeter: _OpenMeter) -> list[BilledTwice]:
    about = {billed.account for _, billed in openmeter.listed}
    every = [*(billed for _, billed in openmeter.listed), *openmeter.known]
    return billed_twice({one.account: one.uses for one in every}, about)


async def _look_at(openmeter: _OpenMeter, found: Unbilled, clock: Clock, stop: Stop) -> int:
    """Ask an OpenMeter for what none of its accounts bills; return how many requests it took. Raise MeterSyncError."""
    settings, _ = openmeter.listed[0]
    listed = [billed for _, billed in openmeter.listed]
    # What is used later may be of who was listed by one of them later.
    as_of = min(one.as_of for one in listed)
    run = run_record(Request(dry_run=True), settings.schedule, clock())
    meters: Mapping[str, str] = {billing.meter_id: billing.meter for one in listed for billing in one.meters}
    async with sharing_openmeter(settings, run, is_seen=False), open_openmeter(settings, stop) as client:
        for meter_id in meters:
            about = [billing for one in listed for billing in one.meters if billing.meter_id == meter_id]
            known = [billing for one in openmeter.known for billing in one.meters if billing.meter_id == meter_id]
            ignored = settings.verify.ignore_subjects
            await look_at_meter(found, client, NoProgress(), [*about, *known], about, ignored, as_of)
        return client.requests_sent


def _key_of(settings: Settings) -> str | None:
    key = settings.openmeter.api_key
    return key.get_secret_value() if key else None


def _goes_by_subjects(settings: Settings) -> bool:
    """Say whether usage without a listed item can be found: that of customers OpenMeter tells for named ones only."""
    return not settings.mapping_rules.asks_for_customers


def _not_by_subjects(openmeter: _OpenMeter) -> Iterator[str]:
    for settings, billed in openmeter.listed:
        if not _goes_by_subjects(settings):
            yield f"account {billed.account}: {_BY_CUSTOMERS}"


def _names(openmeter: _OpenMeter) -> list[str]:
    return [billed.account for _, billed in openmeter.listed]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{'account' if len(names) == 1 else 'accounts'} {', '.join(names[:_NAMED])}{more}"
