"""The naive algorithm to compare with: one item after the other.

It is OpenMeter's own sample of 2023 with paging added: list the active subscriptions; for each metered
item take the meter from its metadata and the customer as the subject; ask OpenMeter for the period's
usage; create a usage record with `action=set`. Two requests per item, each waiting for the one before.
"""

import os
import time
from datetime import UTC, datetime

import stripe
from openmeter import Client

USAGE_RECORD_VERSION = "2025-02-24.acacia"
"""The last API version with usage records."""


def main() -> None:
    """Report the usage of every metered item of every active subscription."""
    payments = stripe.StripeClient(os.environ["STRIPE_API_KEY"], base_addresses={"api": os.environ["STRIPE_API_BASE"]})
    metering = Client(os.environ["OPENMETER_URL"], os.environ["OPENMETER_API_KEY"])
    subscriptions = payments.v1.subscriptions.list({"status": "active", "limit": 100})
    for subscription in subscriptions.auto_paging_iter():
        for item in subscription["items"]["data"]:
            if item["price"]["recurring"]["usage_type"] == "metered":
                usage = period_usage(metering, item, str(subscription["customer"]))
                payments.raw_request(
                    "post",
                    f"/v1/subscription_items/{item['id']}/usage_records",
                    stripe_version=USAGE_RECORD_VERSION,
                    quantity=usage,
                    timestamp=int(time.time()),
                    action="set",
                )


def period_usage(metering: Client, item: stripe.SubscriptionItem, subject: str) -> int:
    """Return what OpenMeter has for the subject since the item's period started."""
    answer = metering.meters.query_json(
        item["metadata"]["om_meter_id"],
        subject=[subject],
        from_parameter=datetime.fromtimestamp(item["current_period_start"], UTC),
        to=datetime.now(UTC).replace(microsecond=0),
    )
    return int(sum(row["value"] for row in answer["data"]))


if __name__ == "__main__":
    main()
