"""What people are told of trouble: when it is new or has changed, once a day while it lasts, and when it is over."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from meter_sync.core.outcomes import ExitCode, Reason, exit_code
from meter_sync.core.planning.stages import Result
from meter_sync.monitor.ended import Ended

AGAIN_AFTER = timedelta(hours=23)
"""A broken installation must not fall silent. By less than a day: runs are not on the second, and a daily one is
to say it each time."""
_NAMED = 5

_TROUBLE = {
    ExitCode.FAILED: "a run failed",
    ExitCode.PARTIAL: "some items failed",
    ExitCode.ATTENTION: "someone should look",
    ExitCode.CONFIGURATION: "the configuration, a key or the clock is wrong",
}
"""The exit codes that people are told of: 75 passes, or becomes 1 once a run is overdue; 2 is seen by who typed it."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What was told last."""

    exit_code: int
    error: str | None
    """The code of what ended the run."""
    items: frozenset[str]
    """Each item that needs somebody, with its outcome and reason."""
    at: datetime
    """When it was told."""

    def stored(self) -> str:
        """Return it as JSON."""
        at = int(self.at.timestamp())
        return json.dumps({"exit_code": self.exit_code, "error": self.error, "items": sorted(self.items), "at": at})

    def is_told_by(self, before: "Trouble | None") -> bool:
        """Say whether it is the same that was told before, less than a day ago."""
        return before == replace(self, at=before.at) and self.at - before.at < AGAIN_AFTER if before else False


def trouble_from(stored: str | None) -> Trouble | None:
    """Return what was told last, as it was stored; None where that was nothing, or cannot be read."""
    try:
        found = json.loads(stored or "null")
        at = datetime.fromtimestamp(found["at"], UTC)
        return Trouble(found["exit_code"], found["error"], frozenset(found["items"]), at)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


@dataclass(frozen=True, slots=True)
class News:
    """What is to be told."""

    title: str
    body: str
    to_remember: Trouble | None
    """What was told then; None: that there is no trouble any more."""


def news(ended: Ended, told: Trouble | None, unbilled: int) -> News | None:
    """Given how a full run ended, and what was told last, return what is to be told now, or None for nothing.

    `unbilled` is of how many periods something is not billed: runs name it once, and it stays for a person to settle.
    """
    code, error = ended.exit_code, ended.execution.report.error
    if code is ExitCode.DONE:
        return _well_again(ended, unbilled) if told else None
    if code not in _TROUBLE:
        return None
    waiting = _waiting(ended)
    found = Trouble(int(code), error.code if error else None, _named(waiting), ended.execution.finished_at)
    return None if found.is_told_by(told) else News(_TROUBLE[code], _body(ended, waiting), found)


def _well_again(ended: Ended, unbilled: int) -> News:
    if not unbilled:
        return News("all is well again", ended.in_words, None)
    left = f"Something of {unbilled} periods is not billed yet: meter-sync history --unbilled names it."
    return News("runs are well again, and something is not billed", f"{ended.in_words}\n{left}", None)


def news_of_closing(ended: Ended, told: Trouble | None) -> News | None:
    """Given how a closing run ended, return what is to be told: of items of which nothing was told yet.

    What ends it as a whole the next full run says: a closing run would say it every minute.
    """
    before = told.items if told else frozenset()
    waiting = [one for one in _waiting(ended) if _name(one) not in before]
    if ended.exit_code not in _TROUBLE or not waiting:
        return None
    found = Trouble(int(ended.exit_code), None, before | _named(waiting), ended.execution.finished_at)
    to_remember = replace(told, items=found.items) if told else found
    return News(_TROUBLE[ended.exit_code], _body(ended, waiting), to_remember)


def _waiting(ended: Ended) -> list[Result]:
    """Return the items that need somebody. Those that a signal has cut off need only another run."""
    results = ended.execution.report.results
    needing = (one for one in results if exit_code([(one.outcome, one.reason)]) is not ExitCode.DONE)
    return [one for one in needing if one.reason is not Reason.INTERRUPTED]


def _named(items: Sequence[Result]) -> frozenset[str]:
    return frozenset(map(_name, items))


def _name(one: Result) -> str:
    return f"{one.item.id} {one.outcome} {one.reason}"


def _body(ended: Ended, waiting: Sequence[Result]) -> str:
    """Return the text: what happened, and the first items with their reasons, without whose they are and how much."""
    lines = [f"{one.item.id}: {one.outcome}, {str(one.reason).replace('_', ' ')}" for one in waiting[:_NAMED]]
    if len(waiting) > _NAMED:
        lines.append(f"and {len(waiting) - _NAMED} more")
    return "\n".join([ended.in_words, *(["", *lines, "meter-sync status says more."] if lines else [])])
