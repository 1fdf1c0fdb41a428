"""The section of the ledger: whether it is there, whole, this user's, alone, and about the key's account."""

import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

from meter_sync.config import usual_ledgers
from meter_sync.doctor.finding import Finding, named, obstacle, of_error, ok, problem, warning
from meter_sync.doctor.installation import Installation
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Place, ledger_state, open_ledger_read_only, refuse_shared

_LITTLE_BYTES = 100_000_000
_NEARLY_NONE_BYTES = 10_000_000


def examine_ledger(installation: Installation) -> Iterator[Finding]:
    """Yield what there is to say of the ledger's place, of its file or database, and of what it is about."""
    place = installation.settings.ledger
    if isinstance(place, Path):
        yield from _examine_file(installation, place)
    else:
        yield from _of_state(place)
        yield from _of_books(installation)
        yield from _of_others(place, installation.account.ledger)


def _examine_file(installation: Installation, path: Path) -> Iterator[Finding]:
    try:
        refuse_shared(path)
        is_there = path.exists()
    except MeterSyncError as error:
        yield of_error("ledger", error)
        return
    except OSError as error:
        yield obstacle("ledger", f"the ledger {path} cannot be looked at: {error.strerror}", _RIGHT_USER)
        return
    if is_there and not path.is_file():
        yield obstacle(
            "ledger", f"{path} is no file", "name a file with METER_SYNC_LEDGER or `ledger` in the TOML file"
        )
        return
    if is_there:
        yield from _of_file(path)
        yield from _of_books(installation)
    else:
        yield _of_missing(path)
    yield from _of_disk(path)
    yield from _of_others(path, installation.account.ledger)


_RIGHT_USER = "start it as the schedule starts runs: the same user, environment and configuration"


def _of_missing(path: Path) -> Finding:
    folder = _nearest(path.parent)
    if not os.access(folder, os.W_OK | os.X_OK):
        said = f"there is no ledger {path}, and this user may not make one: {folder} is not writable"
        return obstacle("ledger", said, _RIGHT_USER)
    return warning(
        "ledger",
        f"there is no ledger {path} yet: the first run makes it",
        "if there have been runs, name theirs with METER_SYNC_LEDGER or `ledger` in the TOML file",
    )


def _nearest(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that there is."""
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))


def _of_file(path: Path) -> Iterator[Finding]:
    state = [*_of_state(path)]
    yield from state
    if any(one.status != "ok" for one in state):
        return
    owner = path.stat().st_uid
    if not os.access(path, os.R_OK | os.W_OK):
        yield obstacle("ledger", f"this user may not write {path}, which is {_user(owner)}'s", _RIGHT_USER)
    elif owner != os.geteuid():
        said = f"{path} is {_user(owner)}'s, and this is {_user(os.geteuid())}: what runs leave would be another's"
        yield warning("ledger", said, _RIGHT_USER)


def _of_state(place: Place) -> Iterator[Finding]:
    try:
        state = ledger_state(place)
    except MeterSyncError as error:
        yield of_error("ledger", error)
        return
    if state.damage:
        yield obstacle(
            "ledger",
            f"the ledger {place} is damaged: {'; '.join(state.damage)}",
            "stop the schedule, keep a copy, and put a backup back, or begin a new one",
        )
        return
    older = "" if state.is_current else f" (revision {state.revision or 'none'}: the next run brings it up to date)"
    yield ok("ledger", f"{place} is {'whole' if isinstance(place, Path) else 'there'}{older}")


def _user(id: int) -> str:
    try:
        return pwd.getpwuid(id).pw_name
    except KeyError:
        return f"user {id}"


def _of_books(installation: Installation) -> Iterator[Finding]:
    settings = installation.settings
    try:
        with open_ledger_read_only(settings.ledger, settings.scope) as ledger:
            bound = ledger.binding.read()
            ledger.binding.check_mode()
            if bound:
                account = f"Stripe account {bound.stripe_account}" if bound.stripe_account else "a Stripe account"
                yield ok("ledger", f"it is about {account} in {bound.mode} mode")
            if ledger.epochs.is_restored():
                said = f"{settings.ledger} is older than the last run that wrote: it was restored, or copied"
                yield warning("ledger", said, "let a run work: it reads back what Stripe holds before it writes")
    except MeterSyncError as error:
        yield of_error("ledger", error)


def _of_disk(path: Path) -> Iterator[Finding]:
    folder = _nearest(path.parent)
    free = shutil.disk_usage(folder).free
    said = f"{free / 1e6:,.0f} MB are free in {folder}"
    remedy = "make room: where the ledger cannot be written, nothing is reported"
    if free < _NEARLY_NONE_BYTES:
        yield problem("ledger", said, remedy, "disk")
    elif free < _LITTLE_BYTES:
        yield warning("ledger", said, remedy, "disk")
    else:
        yield ok("ledger", said, "disk")


def _of_others(place: Place, of_account: Place) -> Iterator[Finding]:
    """Yield that there are other ledgers where commands look for one: two of them know half each.

    In shadow mode that of the account itself is no other one: it waits there.
    """
    others = [other for other in usual_ledgers() if _is_another(other, place) and _is_another(other, of_account)]
    if others:
        yield warning(
            "ledger",
            f"there are other ledgers in the usual places: {named(map(str, others))}",
            "find out which of them the schedule uses, by meter-sync config show as the service runs; keep the others "
            "away from there",
        )


def _is_another(other: Path, place: Place) -> bool:
    try:
        is_one = isinstance(place, Path) and place.exists() and other.samefile(place)
        return other.exists() and not is_one
    except OSError:  # of what this user may not see, nothing is known
        return False
