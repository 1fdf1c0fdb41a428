"""The one clock of the sandbox, which both embedded servers read."""

import threading
from datetime import UTC, datetime, timedelta

from meter_sync.sandbox.instants import aware


class SandboxClock:
    """A clock in UTC that stands still at a given instant, or runs with real time if none is given.

    Like Stripe's test clocks it only moves what is billed: the `Date` header stays real time.
    """

    def __init__(self, now: datetime | None = None) -> None:
        self._guard = threading.Lock()
        self._frozen_at = None if now is None else aware(now)
        self._offset = timedelta(0)

    @property
    def frozen(self) -> bool:
        """Whether the clock stands still between moves."""
        return self._frozen_at is not None

    def now(self) -> datetime:
        """The sandbox's present, aware, in UTC."""
        with self._guard:
            if self._frozen_at is not None:
                return self._frozen_at
            return datetime.now(UTC) + self._offset

    def timestamp(self) -> int:
        """The present in whole Unix seconds, as Stripe stamps what it creates."""
        return int(self.now().timestamp())

    def move_to(self, instant: datetime) -> None:
        """Set the present to an aware instant, earlier or later than now.

        Moving forward over the end of a billing period closes it; moving back does not reopen it.
        """
        target = aware(instant)
        with self._guard:
            if self._frozen_at is not None:
                self._frozen_at = target
            else:
                self._offset = target - datetime.now(UTC)

    def advance(self, step: timedelta) -> None:
        """Move the present by a step."""
        self.move_to(self.now() + step)
