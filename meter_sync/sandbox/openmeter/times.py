"""Instants as OpenMeter reads and writes them (RFC 3339)."""

import re
from datetime import UTC, datetime

_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})")


def parse_time(text: object) -> datetime:
    """Return an aware datetime in UTC; raise ValueError unless this is RFC 3339 with an offset."""
    match = _RFC3339.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"not a date-time in RFC 3339 format: {text!r}")
    day, time, fraction, offset = match.groups()
    shown_offset = "+00:00" if offset in "Zz" else offset
    parsed = datetime.fromisoformat(f"{day}T{time}{(fraction or '')[:7]}{shown_offset}")
    return parsed.astimezone(UTC)


def show_time(instant: datetime) -> str:
    """Write an instant in UTC, with a fraction only if it has one."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
