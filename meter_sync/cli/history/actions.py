"""What a person asks `meter-sync history` for, what it does with the ledger, and what it shows of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import click

from meter_sync.cli.globals import now
from meter_sync.cli.history import answers
from meter_sync.cli.history.answers import Answer, Of
from meter_sync.core.telling.history import Entry, Sought, Story
from meter_sync.core.text import utc
from meter_sync.errors import ArgumentsError, MeterSyncError
from meter_sync.ledger import (
    Ledger,
    Place,
    Scope,
    books_in_use,
    open_ledger,
    open_ledgers_read_only,
    run_lock,
    used_books,
)
from meter_sync.ledger.remainders import Unbilled

_NOTHING_SELECTED = "nothing_selected"


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """The options as they were given; times are in UTC."""

    sought: Sought
    parts: bool
    since: datetime | None
    until: datetime | None
    limit: int
    explain: str | None
    """An item, a subscription or a customer."""
    period: datetime | None
    unbilled: bool
    signed: bool
    settle: tuple[str, datetime] | None
    """An item and the start of its period."""
    note: str | None
    prune: timedelta | None

    def is_within(self, at: datetime) -> bool:
        """Say whether something happened in the time that was asked for."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def check(self) -> None:
        """Raise UsageError for options that do not belong together."""
        lists = {"--unbilled": self.unbilled, "--signed": self.signed}
        alone = {"--explain": self.explain, **lists, "--settle": self.settle, "--prune": self.prune}
        given = [name for name, value in alone.items() if value not in (None, False)]
        narrows = not self.sought.is_nothing
        if len(given) > 1 or (given and (narrows or self.since or self.until)):
            raise click.UsageError(f"{given[0]} stands alone: leave the other options out.")
        if (self.settle is None) != (self.note is None) or (self.note is not None and not self.note.strip()):
            raise click.UsageError("--settle and --note belong together: say how it was settled.")
        if self.period and self.explain is None:
            raise click.UsageError("--period belongs to --explain.")
        if self.parts and not narrows:
            raise click.UsageError("--parts belongs to a selector: --customer, --subscription, --item or --meter.")


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose history is asked for."""

    place: Place
    """Where the ledger is."""
    books: Sequence[Scope]
    by_account: bool
    """Whether it is about several accounts: then what goes wrong with the books of one is its own."""


def carry_out(whose: Whose, asked: HistoryRequest) -> Answer:
    """Do what was asked for, and return what there is to say. Raise MeterSyncError, with what to do."""
    if asked.settle is not None:
        return _settle(whose, *asked.settle, str(asked.note).strip())
    if asked.prune is not None:
        return _prune(whose, now() - asked.prune)
    by_account = whose.by_account
    if asked.unbilled:
        unbilled = _read_each(whose, lambda ledger: ledger.remainders.unbilled())
        oldest_first = sorted(unbilled.things, key=lambda one: (one[1].period.end, one[0]))
        return unbilled.answer(answers.unbilled(oldest_first, by_account=by_account))
    if asked.signed:
        signed = _read_each(whose, lambda ledger: ledger.signatures.all())
        oldest = sorted(signed.things, key=lambda one: (one[1].signed_at, one[0]))
        return signed.answer(answers.signatures(oldest, by_account=by_account))
    if asked.explain is not None:
        name = asked.explain
        stories = _read_each(whose, lambda ledger: _stories(ledger, name, asked.period))
        return stories.answer(answers.explanations(stories.things, by_account=by_account))
    if asked.sought.is_nothing:
        runs = _read_each(whose, lambda ledger: ledger.runs.past(asked.since, asked.until, asked.limit))
        newest_first = sorted(runs.things, key=lambda one: one[1].started_at, reverse=True)
        return runs.answer(answers.runs(newest_first[: asked.limit], by_account=by_account))
    entries = _read_each(whose, lambda ledger: _entries(ledger, asked))
    oldest_first_too = sorted(entries.things, key=lambda one: (one[1].at, one[0]))
    return entries.answer(answers.entries(oldest_first_too, by_account=by_account))


Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class _Read(Generic[Thing]):
    """What was found in the books of each account."""

    things: list[Of[Thing]]
    errors: Mapping[Scope, MeterSyncError | None]
    """By whose books these are: why they could not be read."""
    by_account: bool

    def answer(self, found: Answer) -> Answer:
        """Return an answer as one about these accounts."""
        return found.over({_name(one): error for one, error in self.errors.items()}) if self.by_account else found


def _name(books: Scope) -> str:
    """Return the name of the account whose these books are; what is in them may be that of its shadow."""
    return books.account.partition("/")[0]


def _read_each(whose: Whose, read: Callable[[Ledger], Sequence[Thing]]) -> _Read[Thing]:
    """Read the books of each account, and return what is found in them. Raise MeterSyncError where none can be read."""
    with open_ledgers_read_only(whose.place) as books_of:
        return _each(whose, lambda books: read(books_of(used_books(whose.place, books_of, books))))


def _each(whose: Whose, found_in: Callable[[Scope], Sequence[Thing]]) -> _Read[Thing]:
    """Return what is found for each account, and what goes wrong with it.

    Of what one has, it is no failure that another one has not. Raise MeterSyncError where all fail alike.
    """
    things, errors = list[Of[Thing]](), dict[Scope, MeterSyncError | None]()
    for books in whose.books:
        errors[books] = None
        try:
            things += [(_name(books), one) for one in found_in(books)]
        except MeterSyncError as error:
            errors[books] = error
    failed = [error for error in errors.values() if error]
    if len(failed) == len(errors) and len({error.code for error in failed}) == 1:
        raise failed[0]
    if len(failed) < len(errors):
        errors = {one: error if error and error.code != _NOTHING_SELECTED else None for one, error in errors.items()}
    return _Read(things, errors, whose.by_account)


def _entries(ledger: Ledger, asked: HistoryRequest) -> list[Entry]:
    unmatched = ledger.history.unmatched(asked.sought)
    if unmatched:
        raise _not_known(f"--{unmatched.kind} {unmatched.value} matches nothing in the ledger", unmatched.known)
    if not ledger.history.matches_together(asked.sought):
        raise _not_known("no item in the ledger matches all the selectors together")
    entries = ledger.history.entries(asked.sought, with_parts=asked.parts)
    return [one for one in entries if asked.is_within(one.at)]


def _stories(ledger: Ledger, name: str, period_start: datetime | None) -> Sequence[Story]:
    stories = ledger.history.stories(name, period_start)
    if not stories:
        newest = [utc(one.whose.period.start) for one in ledger.history.stories(name, None)]
        if not newest:
            raise _not_known(f"the ledger knows no item, subscription or customer {name}")
        start = utc(period_start) if period_start else ""
        raise _not_known(f"the ledger knows no period of {name} that starts at {start}", newest)
    return stories


def _not_known(what: str, known: Sequence[str] = ()) -> MeterSyncError:
    some = ", ".join(known)
    hint = f"known are {some}" if some else "check the values, and that the ledger is the one that the runs use"
    return MeterSyncError(what, hint, code=_NOTHING_SELECTED)


def _prune(whose: Whose, before: datetime) -> Answer:
    def pruned(books: Scope) -> Sequence[Mapping[str, int]]:
        books = books_in_use(whose.place, books)
        with run_lock(whose.place, books) as lock, open_ledger(whose.place, books, lock) as ledger:
            return [ledger.pruning.prune(before)]

    gone = _each(whose, pruned)
    return gone.answer(answers.pruned(before, gone.things, by_account=whose.by_account))


def _settle(whose: Whose, item: str, period_start: datetime, note: str) -> Answer:
    """Mark what is open of an item's period as settled, of whichever account it is."""
    found = _read_each(whose, lambda ledger: _open(ledger, item, period_start))
    if len(found.things) > 1:
        names = ", ".join(name or "-" for name, _ in found.things)
        raise ArgumentsError(
            f"{item} is open in the accounts {names} for a period that starts at {utc(period_start)}; nothing was "
            "changed",
            "say by --account which one it is",
        )
    if not found.things:
        raise MeterSyncError(
            f"nothing is open of {item} for a period that starts at {utc(period_start)}; nothing was changed",
            "meter-sync history --unbilled lists what is, with the start of its period",
            code="nothing_open",
            details=[f"account {_name(books)}: {error.message}" for books, error in found.errors.items() if error],
        )
    (account, one), *_ = found.things
    (books,) = (books for books in whose.books if _name(books) == account)
    with open_ledger(whose.place, books_in_use(whose.place, books)) as ledger:
        ledger.remainders.settle(one, note, now())
    return found.answer(answers.settled(account, one, note, by_account=whose.by_account))


def _open(ledger: Ledger, item: str, period_start: datetime) -> Sequence[Unbilled]:
    one = ledger.remainders.of(item, period_start)
    return [one] if one and (one.open_quantity or one.is_unknown) else []
