"""The moments before and after everything that lasts: a change of the ledger, a write to Stripe.

A program that is killed is killed between two of them, so whoever wants to see what that leaves behind watches them and
stops it there. Nothing watches in normal operation.
"""

from collections.abc import Callable
from contextvars import ContextVar

Watch = Callable[[str, str], None]
"""Is told the place, `ledger` or `stripe`, and whether the effect `comes` or `is done`; what it raises goes through."""

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


def watch(each: Watch) -> None:
    """Let a function be told of every effect from now on, in this context and the tasks that are begun in it."""
    _watch.set(each)


def comes(place: str) -> None:
    """Say that an effect is about to be brought about."""
    _tell(place, "comes")


def is_done(place: str) -> None:
    """Say that an effect has been brought about."""
    _tell(place, "is done")


def _tell(place: str, moment: str) -> None:
    told = _watch.get()
    if told is not None:
        told(place, moment)
