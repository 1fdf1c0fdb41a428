"""What goes over the wire, as plain values that know nothing of the HTTP server."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server answers to one request."""

    status: int
    body: str = ""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """One request as a server reads it."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: str
    failure: Answer | None = None
    """An injected failure to answer with, instead of carrying the request out."""
    account: str | None = None
    """The account that it is for, by what the server knows of its key and headers; None where there are no accounts."""
    finds_locked: bool = False
    """Whether another request was at what this one is about when it came."""


@dataclass(frozen=True, kw_only=True)
class RequestSeen:
    """One request that reached a server, and how it ended, for tests to look at afterwards."""

    server: str
    """`stripe` or `openmeter`."""
    method: str
    path: str
    query: str
    body: str
    status: int | None
    """The status answered; None if the connection was closed without an answer."""
    headers: Mapping[str, str]
    """Names in lower case; the value of Authorization is masked."""
    at: float
    """Monotonic seconds at its arrival."""
    account: str | None = None
    """The account of Stripe's that it was for, also if it was refused; None for a key that nobody has, or OpenMeter."""


Api = Callable[[Incoming], Answer]
"""One embedded server: a function from a request to an answer."""

Locks = Callable[[Incoming], Hashable | None]
"""From a request to what only one request at a time may be at; None for what any number may be at."""
