"""What the embedded OpenMeter refuses, whichever version of its API is asked; each shows it in its own shape."""

import itertools
from dataclasses import dataclass

_CORRELATIONS = itertools.count(1)


@dataclass
class Problem(Exception):
    """An error that is answered with this status and detail."""

    status: int
    detail: str
    field: str = ""
    """What of the request is wrong: a name of its own, or of `Query` for a rule that both versions have."""


def correlation() -> str:
    """Return an id by which one refusal can be told from all others."""
    return f"{next(_CORRELATIONS):06d}"
