"""The moments before and after everything that lasts: a change of the ledger, a write to Stripe.

A program that is killed is killed between two of them, so whoever wants to see what that leaves behind watches them and
stops it there. Nothing watches in normal operation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watch = Callable[[str, str], None]
"""Is told the place, `ledger`, `stripe`, `openmeter` or `secrets`, and whether the effect `comes` or `is done`; what it
raises goes through."""

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


def watch(each: Watch) -> None:
    """Let a function be told of every effect from now on, in this context and the tasks that are begun in it."""
    _watch.set(each)


@contextmanager
def effect(place: str) -> Iterator[None]:
    """Bring an effect about inside. It is not done where that raises."""
    told = _watch.get()
    if told:
        told(place, "comes")
    yield
    if told:
        told(place, "is done")
