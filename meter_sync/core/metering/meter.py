"""OpenMeter's meters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Aggregation(StrEnum):
    """How an OpenMeter meter makes one number of many events."""

    SUM = "SUM"
    COUNT = "COUNT"
    UNIQUE_COUNT = "UNIQUE_COUNT"
    AVG = "AVG"
    MIN = "MIN"
    MAX = "MAX"
    LATEST = "LATEST"

    @property
    def combines_subjects(self) -> bool:
        """Whether the usage of several subjects can be put together from their single answers."""
        return self in {self.SUM, self.COUNT, self.MIN, self.MAX}

    @property
    def adds_up(self) -> bool:
        """Whether the usage of a period is the sum of that of its parts."""
        return self in {self.SUM, self.COUNT}

    @property
    def follows_from_parts(self) -> bool:
        """Whether the usage of a time follows from that of its parts: by a sum, the extreme, or the last one there."""
        return self not in {self.AVG, self.UNIQUE_COUNT}

    @property
    def never_falls(self) -> bool:
        """Whether a running total can only grow, so that a fall means that something went wrong."""
        return self in {self.SUM, self.COUNT, self.UNIQUE_COUNT, self.MAX}


@dataclass(frozen=True, slots=True)
class Meter:
    """An OpenMeter meter."""

    id: str
    slug: str
    aggregation: Aggregation
    events_from: datetime | None = None
    """From when on it counts events; None where it counts all. OpenMeter says nothing where more is asked for."""


@dataclass(frozen=True, slots=True)
class Meters:
    """All meters of OpenMeter, by slug and by id."""

    known: Mapping[str, Meter]
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Those that may count in any way, so that they are never misread: what of them is not known, in words."""
