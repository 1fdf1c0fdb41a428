"""API versions of Stripe, as far as they change what this sandbox shows."""

import re
from dataclasses import dataclass

from meter_sync.sandbox.stripe.protocol.errors import Refusal

ACCOUNT_DEFAULT = "2026-10-28.endive"
"""The version of accounts that chose no other; also the newest one known."""

LEGACY_BILLING_REMOVED = "2025-03-31"
"""The date of `2025-03-31.basil` of Stripe's changelog.

Usage records and aggregate_usage are gone; periods moved from the subscription to its items.
"""

_FLEXIBLE_BY_DEFAULT = "2025-09-30"
"""The date of `2025-09-30.clover`, from which on new subscriptions are in the billing mode `flexible` by default."""

_TRAINS = {
    "acacia": ("2024-09-30", "2025-03-31"),
    "basil": ("2025-03-31", "2025-09-30"),
    "clover": ("2025-09-30", "2026-03-25"),
    "dahlia": ("2026-03-25", "2026-09-30"),
    "endive": ("2026-09-30", "2026-10-29"),
}
"""Named releases: the first date, and the date before which they end."""

_FIRST, _FIRST_NAMED = "2011-01-01", "2024-09-30"


@dataclass(frozen=True)
class Version:
    """An API version."""

    name: str

    @property
    def has_legacy_billing(self) -> bool:
        """Whether usage records exist and periods are on the subscription."""
        return self.name[:10] < LEGACY_BILLING_REMOVED

    @property
    def is_flexible_by_default(self) -> bool:
        """Whether a new subscription that names no billing mode is in `flexible`."""
        return self.name[:10] >= _FLEXIBLE_BY_DEFAULT


def parse_version(header: str | None, account: str = ACCOUNT_DEFAULT) -> Version:
    """Return the version that a request names, or the account's default; refuse unknown ones."""
    if header is None:
        return Version(account)
    match = re.fullmatch(r"(\d{4}-[01]\d-[0-3]\d)(?:\.([a-z]+))?", header)
    first, end = (_FIRST, _FIRST_NAMED)
    if match is not None and match[2] is not None:
        first, end = _TRAINS.get(match[2], ("", ""))
    if match is None or not first <= match[1] < end:
        raise Refusal(f"Invalid Stripe API version: {header}")
    return Version(header)
