"""Notifications: people are told of trouble by Apprise, in whatever services its addresses name."""

import importlib.util
import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from meter_sync.config import Settings
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Scope, books_in_use, open_ledger, open_ledger_read_only
from meter_sync.monitor.beside import READ_SECONDS, Beside
from meter_sync.monitor.ended import Ended, MonitorFailed
from meter_sync.monitor.news import News, Trouble, news, news_of_closing, trouble_from


@dataclass(frozen=True, slots=True)
class Address:
    """One of Apprise's addresses, which are secrets, and the line that it stands in."""

    line: int
    url: str

    @property
    def shown(self) -> str:
        """What can be said of it."""
        scheme, found, _ = self.url.partition("://")
        return f"line {self.line}" + (f" ({scheme})" if found and scheme.isalnum() else "")


@dataclass(frozen=True, slots=True)
class Memory:
    """What was told last, as the ledger remembers it."""

    settings: Settings
    books: Scope
    told: Trouble | None
    unbilled: int
    """Of how many periods something is not billed, and waits for a person."""

    def record(self, trouble: Trouble | None) -> None:
        """Remember what was told. Raise MonitorFailed."""
        try:
            with open_ledger(self.settings.ledger, self.books) as ledger:
                ledger.markers.record_told(trouble.stored() if trouble else None)
        except MeterSyncError as error:
            raise MonitorFailed(f"what was told will be told again: {error.message}") from error


def notify(file: Path, ended: Ended, seconds: float) -> None:
    """Tell how a run ended, if that is news, within so many seconds, and remember it. Raise MonitorFailed.

    Where the ledger cannot be read, or there is none yet, nobody knows what was told: a full run then tells it again.
    """
    until = time.monotonic() + seconds
    addresses = addresses_in(file)
    memory = _memory(ended.settings)
    found = _news(ended, memory)
    if found is None:
        return
    failed = _send(addresses, found, until)
    if memory and len(failed) < len(addresses):
        memory.record(found.to_remember)
    if failed:
        raise MonitorFailed(f"not delivered: {', '.join(failed)}")


def _news(ended: Ended, memory: Memory | None) -> News | None:
    if ended.is_full:
        return news(ended, memory.told if memory else None, memory.unbilled if memory else 0)
    return news_of_closing(ended, memory.told) if memory else None


def addresses_in(file: Path) -> Sequence[Address]:
    """Return the addresses in a file. Raise MonitorFailed where there are none, or nothing to tell them with."""
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise MonitorFailed(f"{file} cannot be read: {why}") from error
    found = [Address(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not found:
        raise MonitorFailed(f"{file} has no address")
    if importlib.util.find_spec("apprise") is None:
        raise MonitorFailed("Apprise is not installed: install meter-sync[notify]")
    return found


def is_address(address: Address) -> bool:
    """Say whether Apprise understands an address. Nothing is sent."""
    from apprise import Apprise

    return Apprise.instantiate(address.url) is not None


def _memory(settings: Settings | None) -> Memory | None:
    """Return what was told last, or None where that cannot be known."""
    if settings is None:
        return None
    try:
        return Beside(partial(_read_memory, settings)).result(time.monotonic() + READ_SECONDS)
    except (MeterSyncError, MonitorFailed):
        return None


def _read_memory(settings: Settings) -> Memory:
    books = books_in_use(settings.ledger, settings.scope)
    with open_ledger_read_only(settings.ledger, books) as ledger:
        unbilled = len(ledger.remainders.for_a_person())
        return Memory(settings, books, trouble_from(ledger.markers.told()), unbilled)


def _send(addresses: Sequence[Address], found: News, until: float) -> list[str]:
    """Send to each address beside the others, until an instant of the monotonic clock; return to which it failed."""
    delivered = dict.fromkeys(addresses, False)

    def send(address: Address) -> None:
        delivered[address] = _delivered(address.url, f"meter-sync: {found.title} ({platform.node()})", found)

    sending = [Beside(partial(send, address)) for address in addresses]
    for one in sending:
        with suppress(MonitorFailed):
            one.result(until)
    return [address.shown for address, is_delivered in dict(delivered).items() if not is_delivered]


def _delivered(url: str, title: str, found: News) -> bool:
    """Send by Apprise in this thread: its own ones would keep the process alive as long as a service hangs."""
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType

    kind = NotifyType.FAILURE if found.to_remember else NotifyType.SUCCESS
    try:
        asset = AppriseAsset(async_mode=False)
        service = Apprise.instantiate(url, asset=asset)
        one = Apprise(asset=asset)
        return bool(
            service
            and one.add(service)
            and one.notify(found.body, title, notify_type=kind, body_format=NotifyFormat.TEXT)
        )
    except Exception:  # of whichever of its many services
        return False
