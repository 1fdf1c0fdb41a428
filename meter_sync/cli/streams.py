"""Standard output and error: what cannot be written there is lost and ends nothing; in JSON each line is an event."""

import errno
import io
import json
import os
import select
import sys
from datetime import UTC, datetime
from typing import Any, TextIO, cast

NAMES = ("stdout", "stderr")


class Lossy(io.FileIO):
    """A file descriptor that takes everything: a full disk, or a pipe that nobody reads, must not end the billing."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "wb", closefd=False)
        self.lost: OSError | None = None
        """Why something could not be written, the first time."""

    def write(self, data: Any, /) -> int:
        """Write some of the data, or lose it all; return how many bytes are done with."""
        try:
            while (written := super().write(data)) is None:  # a full pipe of the kind that does not block
                select.select([], [self], [])
        except OSError as error:
            self.lost = self.lost or error
            return len(memoryview(data).cast("B"))
        return written


class EventLines(io.TextIOBase):
    """Makes an event of each line that is not one yet: of a library, of Python itself, of whoever writes to stderr."""

    def __init__(self, beneath: TextIO) -> None:
        self.beneath = beneath
        self._begun = ""

    def write(self, text: str, /) -> int:
        """Take some text, and write each line as an event once it has ended."""
        *lines, self._begun = f"{self._begun}{text}".split("\n")
        for line in lines:
            if line.strip():
                write_event("stderr", "error", message=line)
        return len(text)

    def flush(self) -> None:
        """Write what has been said; a line that has only begun waits for its end."""
        self.beneath.flush()

    def isatty(self) -> bool:
        """Say that no person watches, so that no progress is drawn between the events."""
        return False

    def writable(self) -> bool:
        """Say that it takes text."""
        return True


def make_lossy() -> None:
    """Let everything that is printed from now on go where it ends nothing if it cannot be written."""
    for name, number in zip(NAMES, (1, 2), strict=True):
        if getattr(sys, name) is None:
            # Started with a closed stream: what would be printed there is lost on purpose.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open until the end)
            continue
        given: io.TextIOWrapper = getattr(sys, name)
        raw = Lossy(number)
        lossy = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=given.encoding,
            errors=given.errors,
            line_buffering=given.line_buffering or name == "stderr",
        )
        setattr(sys, name, lossy)


def make_events_of_stderr() -> None:
    """Let every line on stderr be a JSON object from now on."""
    if not isinstance(sys.stderr, EventLines):
        sys.stderr = EventLines(sys.stderr)


def are_events() -> bool:
    """Say whether every line on stderr is to be a JSON object."""
    return isinstance(sys.stderr, EventLines)


def log_file() -> TextIO:
    """Return where the log's own lines go: to stderr, as they are."""
    return sys.stderr.beneath if isinstance(sys.stderr, EventLines) else sys.stderr


def write_event(event: str, level: str, *, run_id: str | None = None, **fields: Any) -> None:
    """Write a line as the log does in JSON, whatever its level is; `run_id` is by default that of the run under way."""
    from structlog.contextvars import get_contextvars

    about = {"run_id": run_id} if run_id else {"run_id": None, **get_contextvars()}
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    file = log_file()
    file.write(json.dumps({**fields, "event": event, **about, "level": level, "timestamp": at}) + "\n")
    file.flush()


def what_was_lost(name: str) -> OSError | None:
    """Return why something could not be written on `stdout` or `stderr`, or None."""
    stream = getattr(sys, name)
    stream.flush()
    if isinstance(stream, EventLines):
        stream = stream.beneath
    raw = getattr(getattr(cast(Any, stream), "buffer", None), "raw", None)
    return raw.lost if isinstance(raw, Lossy) else None


def is_unread(lost: OSError) -> bool:
    """Say whether who reads has gone, as `head` does: they know, and want no more."""
    return lost.errno == errno.EPIPE
