"""What a plan is made of: each thing that is wanted, and what is there of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from meter_sync.errors import MeterSyncError


class Action(StrEnum):
    """What is to be done about a thing."""

    EXISTS = "exists"
    """Nothing: it is there as it is wanted."""
    CREATE = "create"
    UPDATE = "update"
    REMOVE = "remove"
    DIFFERS = "differs"
    """Nothing: it is there, and not as it is wanted; it is never changed."""


class Kind(StrEnum):
    """What can be made."""

    OPENMETER_METER = "openmeter_meter"
    PRODUCT = "product"
    BILLING_METER = "billing_meter"
    PRICE = "price"
    EVENT_DESTINATION = "event_destination"
    CUSTOMER = "customer"
    SUBSCRIPTION = "subscription"
    SUBSCRIPTION_ITEM = "subscription_item"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is wanted."""

    kind: Kind
    action: Action
    id: str | None
    """That of what is there; None for what is still to be made."""
    what: str
    """What it is, for a person."""
    differences: tuple[str, ...] = ()
    """How what is there is not as it is wanted."""

    @property
    def is_to_do(self) -> bool:
        """Whether it is to be made, changed or taken away."""
        return self.action in (Action.CREATE, Action.UPDATE, Action.REMOVE)


def found(kind: Kind, id: str, what: str, differences: Sequence[str]) -> Step:
    """Return the step for what is there."""
    return Step(kind, Action.DIFFERS if differences else Action.EXISTS, id, what, tuple(differences))


def refuse_differences(steps: Sequence[Step]) -> None:
    """Raise MeterSyncError where something is there, and not as it is wanted: it may bill somebody already."""
    details = [f"{step.kind} {step.id} {said}" for step in steps for said in step.differences]
    if details:
        raise MeterSyncError(
            "what is there already is not what was asked for; nothing was made or changed",
            "ask for what is there, for another one beside it (--lookup-key, --meter, --name), or change it yourself",
            code="setup_differs",
            details=details,
        )
