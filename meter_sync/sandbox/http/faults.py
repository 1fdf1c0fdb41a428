"""Faults that a test or the demo switches on: what networks and servers do on bad days."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from meter_sync.sandbox.http.traffic import JSON, Answer, Incoming

Server = Literal["stripe", "openmeter"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Which requests fail, and how: all the conditions given must hold, exactly one effect applies.

    Effects: `status` (not carried out), `drop="before"` (not carried out), `drop="after"`, `truncate`,
    `delay_seconds`, `drip_seconds`, `replace_text`, `relabel`, `rewrite` and `fill_bytes` (all eight carried out).
    """

    server: Server | None = None
    account: str | None = None
    """The id of the account of Stripe's that a request is for."""
    method: str | None = None
    path: str = ""
    """A regular expression searched in the path."""
    body: str | None = None
    """A regular expression searched in the raw body, or in the query."""
    since: datetime | None = None
    """Requests before this instant of the sandbox's clock pass: a period's end, for one."""
    until: datetime | None = None
    """Requests at this instant of the sandbox's clock, or later, pass."""
    skip: int = 0
    """So many matching requests pass first."""
    times: int | None = 1
    """So many requests are hit; None for ever."""
    status: int | None = None
    """Answer this status, with a body in the server's own shape unless `text` is given."""
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    saved: bool | None = None
    """Whether this answer is saved under the request's idempotency key, so that it is replayed; None for as usual."""
    drop: Literal["before", "after"] | None = None
    """Close the connection without an answer, before or after carrying out the request."""
    truncate: bool = False
    """Promise the whole body, send half of it and close the connection."""
    delay_seconds: float | None = None
    drip_seconds: float | None = None
    """Send the true answer a few bytes at a time, over so long in all."""
    replace_text: str | None = None
    """Answer 200 with this raw body instead of the true one."""
    replace_content_type: str = JSON
    relabel: str | None = None
    """Answer truly, but under this content type."""
    rewrite: Callable[[str], bytes] | None = None
    """Answer with what this makes of the true answer's body, with its status and content type."""
    fill_bytes: int | None = None
    """Send so many spaces after the true answer's body, which stays the same JSON."""
    chunked: bool = False
    """Whether what is filled is sent without saying beforehand how long it is."""

    def __post_init__(self) -> None:
        effects = (
            *(self.status, self.drop, self.delay_seconds, self.drip_seconds),
            *(self.replace_text, self.relabel, self.rewrite, self.fill_bytes),
        )
        if sum(effect is not None for effect in effects) + self.truncate != 1:
            raise ValueError("a fault has exactly one effect")
        if self.since and self.until and self.since >= self.until:
            raise ValueError("a fault begins before it ends")

    def error(self, usual: Answer) -> Answer:
        """Return the error that is answered, given the one in the server's own shape."""
        body = usual.body if self.text is None else self.text
        return replace(usual, body=body, headers={**usual.headers, **self.headers})

    def matches(self, server: str, request: Incoming, now: datetime) -> bool:
        """Whether this request, which comes now, meets all conditions."""
        return (
            (self.since is None or now >= self.since)
            and (self.until is None or now < self.until)
            and (self.server is None or self.server == server)
            and (self.account is None or self.account == request.account)
            and (self.method is None or self.method.upper() == request.method)
            and re.search(self.path, request.path) is not None
            and (
                self.body is None
                or re.search(self.body, request.body) is not None
                or re.search(self.body, request.query) is not None
            )
        )


@dataclass
class _Armed:
    """A fault with what is left of it."""

    fault: Fault
    skips_left: int
    hits_left: int | None


class Faults:
    """The faults that are switched on, tried in the order in which they were added; `now` is the sandbox's clock."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._guard = threading.Lock()
        self._armed: list[_Armed] = []

    def add(self, fault: Fault) -> None:
        """Switch a fault on."""
        with self._guard:
            self._armed.append(_Armed(fault, fault.skip, fault.times))

    def clear(self) -> None:
        """Switch all faults off."""
        with self._guard:
            self._armed.clear()

    def take(self, server: str, request: Incoming) -> Fault | None:
        """Return the fault that hits this request, counting it, or None."""
        now = self._now()
        with self._guard:
            for armed in self._armed:
                if armed.hits_left != 0 and armed.fault.matches(server, request, now):
                    if armed.skips_left:
                        armed.skips_left -= 1
                        continue
                    if armed.hits_left is not None:
                        armed.hits_left -= 1
                    return armed.fault
        return None
