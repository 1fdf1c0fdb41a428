"""What the shapes of Stripe's answers are made of, and reading one, so that nothing is believed unchecked.

Each shape stands beside what reads it.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Generic, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    StringConstraints,
    ValidationError,
)

from meter_sync.errors import MeterSyncError

_LATEST_SECOND = 253_402_300_799  # the end of the year 9999, beyond which there is no datetime
_LONGEST_NAME = 100
_LARGEST_QUANTITY = 2**63 - 1  # what the ledger can hold, and more than any bill has

Text = Annotated[str, StringConstraints(max_length=5_000)]
"""Being checked at all refuses what is no Unicode, such as half a surrogate pair, which could not be printed."""
Identifier = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]
PathIdentifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,255}$")]
"""The prefixes of identifiers say nothing: Stripe may change them at any time (API reference, Versioning)."""
Quantity = Annotated[int, Field(ge=-_LARGEST_QUANTITY, le=_LARGEST_QUANTITY)]


@lru_cache(1000)
def _instant(unix_seconds: int) -> datetime:
    """Return an instant: those of one subscription are mostly the same, which are then kept as one."""
    return datetime.fromtimestamp(unix_seconds, UTC)


_Seconds = Annotated[int, Field(ge=0, le=_LATEST_SECOND), AfterValidator(_instant)]
UnixSeconds = Annotated[datetime, GetPydanticSchema(lambda _datetime, schema_of: schema_of(_Seconds))]
"""Read as the instant that they are, in UTC."""
Instant = Annotated[AwareDatetime, Field(strict=False)]
"""Written as text, which is no datetime in strict checking."""
Metadata = dict[Text, Text]


class Shape(BaseModel):
    """What is of another type than it should be is refused, also where it could be converted."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    @classmethod
    def read(cls, answer: object, what: str) -> Self:
        """Given an answer, return it in this shape. Raise NotUnderstood if it does not have it.

        `what` names the thing for a person. The message has the place of the fault but never the answer's content.
        """
        try:
            return cls.model_validate(answer)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part)[:_LONGEST_NAME] for part in fault["loc"])
            raise NotUnderstood(what, f"{where}: {fault['msg']}") from None


class Identified(Shape):
    """Anything with an id."""

    id: Identifier


T = TypeVar("T")


class Page(Shape, Generic[T]):
    """A page of a list."""

    data: list[T]
    has_more: bool


class NotUnderstood(MeterSyncError):
    """An answer of Stripe's has not the shape that it should have, or contradicts the question or itself."""

    code = "stripe_answer"

    def __init__(self, what: str, why: str) -> None:
        self.why = f"Stripe's answer for {what} was not understood: {why}"
        super().__init__(f"{self.why}; nothing was written", "run again; if it stays so, report it with this message")
