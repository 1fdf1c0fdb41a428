"""What an endpoint of the embedded Stripe is, and what it is given of a request."""

import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.protocol.parameters import Reader, list_of
from meter_sync.sandbox.stripe.protocol.permissions import Permissions, check_permission
from meter_sync.sandbox.stripe.state.stripe_state import StripeState
from meter_sync.sandbox.stripe.views.view import Json, View
from meter_sync.sandbox.stripe.world import StripeWorld


@dataclass(frozen=True)
class Call:
    """A request whose parameters were read, on its way to an endpoint."""

    world: StripeWorld
    state: StripeState
    view: View
    path: str
    ids: tuple[str, ...]
    """The variable parts of the path."""
    params: Mapping[str, Any]
    permissions: Permissions
    key: str
    """The API key; on the meter event stream, that of the session."""
    key_shown: str

    def expands(self, name: str) -> bool:
        """Whether the request asks for this field to be expanded."""
        return name in self.params.get("expand", [])

    def require(self, permission: str) -> None:
        """Refuse with 403 unless the key has a permission; `write` includes `read`."""
        check_permission(permission, self.permissions, key_shown=self.key_shown, account=self.world.account)


@dataclass(frozen=True)
class Endpoint:
    """One route of Stripe's API, the parameters that it knows, and what it does."""

    route: str
    """A method and a path with `{}` for each id."""
    permission: str
    carry_out: Callable[[Call], Json]
    _: KW_ONLY
    fields: Mapping[str, Reader] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    expandable: frozenset[str] = frozenset()
    replays: bool = True
    """Whether it heeds idempotency keys."""
    legacy_billing: bool = False
    """Whether the route was removed with 2025-03-31.basil."""

    @cached_property
    def readers(self) -> Mapping[str, Reader]:
        """All parameters: every endpoint of Stripe takes `expand`."""
        return {**self.fields, "expand": list_of(self._expansion)}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What the method and the path must match as a whole."""
        parts = [re.escape(part) for part in self.route.split("{}")]
        return re.compile("([^/]+)".join(parts))

    def _expansion(self, value: Any, name: str) -> str:
        if value not in self.expandable:
            raise Refusal(f"This property cannot be expanded ({value}).", param=name)
        return str(value)
