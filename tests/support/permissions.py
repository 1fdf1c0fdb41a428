"""What a restricted key for this program may do: the list that the documents show."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permission:
    """A permission that the program uses."""

    name: str
    """As the sandbox names it, with what is given: read, or write, which includes read."""
    row: str
    """The row of the Dashboard's page on which a restricted key is made."""
    in_messages: str
    """The name in Stripe's messages about a lack of it, after `rak_`."""
    is_optional: bool = False
    """Whether the program makes do without."""
    unread: tuple[str, ...] = ()
    """What is warned of in the log of a run without it."""

    @property
    def access(self) -> str:
        """`read` or `write`."""
        return self.name.partition(":")[2]


PERMISSIONS = (
    Permission("subscriptions:read", "Subscriptions", "subscription_read"),
    Permission("prices:read", "Prices", "plan_read"),
    Permission("usage_records:write", "Usage records", "usage_record_write"),
    Permission("billing_meters:read", "Meters", "billing_meter_read"),
    Permission("meter_events:write", "Meter events", "billing_meter_event_write"),
    Permission("customers:read", "Customers", "customer_read"),
    Permission("invoices:read", "Invoices", "invoice_read", is_optional=True, unread=("invoices_unread",)),
    Permission(
        "events:read", "Events", "event_read", is_optional=True, unread=("error_events_unread", "events_unread")
    ),
    Permission(
        "subscription_schedules:read",
        "Subscription schedules",
        "subscription_schedule_read",
        is_optional=True,
        unread=("schedules_unread",),
    ),
    Permission("accounts:read", "Accounts (Connect)", "accounts_kyc_basic_read", is_optional=True),
    Permission("test_clocks:read", "Test clocks", "billing_clock_read", is_optional=True),
)
FOR_SETUP = (
    Permission("products:write", "Products", "product_write"),
    Permission("prices:write", "Prices", "plan_write"),
    Permission("billing_meters:write", "Meters", "billing_meter_write"),
    Permission("webhook_endpoints:write", "Webhook Endpoints", "webhook_write"),
    Permission("accounts:read", "Accounts (Connect)", "accounts_kyc_basic_read", is_optional=True),
)
"""What the key for `setup` may do."""
EXACTLY = frozenset(permission.name for permission in PERMISSIONS)
READ_ONLY = frozenset(permission.name.replace(":write", ":read") for permission in PERMISSIONS)
