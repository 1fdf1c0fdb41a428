"""Which requests were sent: what was asked, and what was answered."""

from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Sent:
    """A kind of request."""

    api: str
    """`stripe` or `openmeter`."""
    endpoint: str
    """The method and the route, such as `get subscriptions`; there is no id in it."""
    status: int | None
    """That of HTTP; None where there was no answer."""


Tally: TypeAlias = Counter[Sent]
"""How many requests of each kind there were."""


def sent_to(api: str, tally: Tally) -> int:
    """Return how many requests one of the APIs was sent."""
    return sum(count for one, count in tally.items() if one.api == api)
