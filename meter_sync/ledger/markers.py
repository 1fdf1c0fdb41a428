"""The ledger's book of how far was read what Stripe tells of subscriptions, and of what people were told."""

from datetime import UTC, date, datetime

from meter_sync.ledger.damage import unreadable
from meter_sync.ledger.database import Book
from meter_sync.ledger.schema import cursors

_CHANGES = "subscription_changes"
_BEGINNING = "beginning"
_TOLD = "told"
_PRUNED = "pruned"


class Markers(Book):
    """Until when changes were read, since when it is not known yet what ended before the ledger, and what was told."""

    def changes_read_until(self) -> datetime | None:
        """Return until when it was read what changed of subscriptions, or None where it never was."""
        return self._position(_CHANGES)

    def record_changes_read(self, until: datetime) -> None:
        """Record that what changed of subscriptions until an instant was read, and all that it told was recorded."""
        with self.database.transaction():
            self._move(_CHANGES, until)

    def begins_at(self) -> datetime | None:
        """Return since when it is not known yet what ended before this ledger began, or None where that is known."""
        return self._position(_BEGINNING)

    def record_beginning(self, at: datetime) -> None:
        """Record, of a ledger that knows nothing yet, since when it is to know what has ended."""
        with self.database.transaction():
            self._move(_BEGINNING, at)

    def record_begun(self) -> None:
        """Record that all is known that ended before this ledger began, or that it can never be known."""
        with self.database.transaction():
            self.database.delete_where(cursors, cursors.c.cursor == _BEGINNING)

    def told(self) -> str | None:
        """Return what people were told last of trouble, as whoever told it wrote it, or None where there is none."""
        return self._text(_TOLD)

    def record_told(self, what: str | None) -> None:
        """Record what was told of trouble, or that it was told that there is none any more."""
        with self.database.transaction():
            if what is None:
                self.database.delete_where(cursors, cursors.c.cursor == _TOLD)
            else:
                self._put(_TOLD, what)

    def pruned_on(self) -> date | None:
        """Return on which day, in UTC, all was forgotten that was over for long enough, or None before that."""
        at = self._position(_PRUNED)
        return at.date() if at else None

    def record_pruned(self, at: datetime) -> None:
        """Record that all was forgotten that was over for long enough."""
        with self.database.transaction():
            self._move(_PRUNED, at)

    def _position(self, cursor: str) -> datetime | None:
        position = self._text(cursor)
        try:
            return None if position is None else datetime.fromtimestamp(int(position), UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise unreadable(str(self.database.store), f"its position {cursor} is no instant") from error

    def _move(self, cursor: str, to: datetime) -> None:
        self._put(cursor, str(int(to.timestamp())))

    def _text(self, cursor: str) -> str | None:
        return self.database.value(self.database.of(cursors, "position").where(cursors.c.cursor == cursor))

    def _put(self, cursor: str, position: str) -> None:
        self.database.put(cursors, [{"cursor": cursor, "position": position}], ("position",))
