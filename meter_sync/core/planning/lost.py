"""The text of what was lost of an item's usage, although more was used since."""

from collections.abc import Iterable

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.memory import Fall
from meter_sync.core.text import utc


def lost(falls: Iterable[Fall]) -> str:
    """Return what to say of falls that have not come back."""
    said = "; ".join(
        f"{one.lost} were lost on {utc(one.seen_at)}, when usage fell from {one.before} to {one.lowest}"
        for one in falls
    )
    return (
        f"{said}, and have not come back: what is reported may lack them; find out why, then say that it is right with "
        f"--allow {Reason.DECREASE}"
    )
