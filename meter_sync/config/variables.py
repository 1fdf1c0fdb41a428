"""The environment variables that there are, in one place, and what is said of one that there is not."""

import re
from collections.abc import Mapping

from meter_sync.core.text import did_you_mean

ENVIRONMENT = {
    "STRIPE_API_KEY": "stripe.api_key",
    "STRIPE_API_KEY_FILE": "stripe.api_key_file",
    "STRIPE_SETUP_API_KEY": "stripe.setup_api_key",
    "STRIPE_SETUP_API_KEY_FILE": "stripe.setup_api_key_file",
    "STRIPE_API_BASE": "stripe.api_base",
    "STRIPE_WEBHOOK_SECRET": "stripe.webhook_secret",
    "STRIPE_WEBHOOK_SECRET_FILE": "stripe.webhook_secret_file",
    "OPENMETER_URL": "openmeter.url",
    "OPENMETER_API_KEY": "openmeter.api_key",
    "OPENMETER_API_KEY_FILE": "openmeter.api_key_file",
    "METER_SYNC_LEDGER": "ledger",
    "METER_SYNC_LEDGER_PASSWORD_FILE": "ledger_password_file",
    "METER_SYNC_SCHEDULE": "schedule",
    "METER_SYNC_SUBJECT": "mapping.subject",
    "METER_SYNC_METER_KEY": "mapping.meter_key",
    "METER_SYNC_STRIPE_RATE": "stripe.rate",
    "METER_SYNC_STRIPE_ENDPOINT_RATE": "stripe.endpoint_rate",
    "METER_SYNC_STRIPE_METER_EVENT_RATE": "stripe.meter_event_rate",
    "METER_SYNC_STRIPE_METER_EVENT_STREAM": "stripe.meter_event_stream",
    "METER_SYNC_OPENMETER_CONCURRENCY": "openmeter.concurrency",
    "METER_SYNC_RETRY_SECONDS": "retry_seconds",
}
"""Those that stand for settings."""

OF_OPTIONS = {
    "METER_SYNC_CONFIG": "--config",
    "METER_SYNC_LOG_FORMAT": "--log-format",
    "METER_SYNC_LOG_LEVEL": "--log-level",
    "METER_SYNC_NO_COLOR": "--no-color",
    "METER_SYNC_OUTPUT": "--output",
    "METER_SYNC_QUIET": "--quiet",
    "METER_SYNC_WORKER_CONCURRENCY": "worker --concurrency",
    "METER_SYNC_WORKER_LISTEN": "worker --listen",
    "METER_SYNC_WEBHOOK_HOST": "webhook --host",
    "METER_SYNC_WEBHOOK_PORT": "webhook --port",
    "METER_SYNC_SANDBOX_STRIPE_PORT": "sandbox --stripe-port",
    "METER_SYNC_SANDBOX_OPENMETER_PORT": "sandbox --openmeter-port",
}
"""Those that stand for options of the command line, which are no settings."""

_PREFIX = "METER_SYNC_"
_OF_KUBERNETES = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|\w+_PORT=\w+://"
)
"""What Kubernetes gives each container for a Service, here for one whose name begins with meter-sync.

Documentation of Kubernetes, "Service", "Environment variables": `{SVCNAME}_SERVICE_HOST`, `{SVCNAME}_PORT=tcp://…`.
"""


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return what is wrong with each variable that looks like the program's own, and is none of these.

    A name with a slip would silently leave a setting, such as the ledger, to its default. An empty one counts as unset.
    """
    known = [name for name in (*ENVIRONMENT, *OF_OPTIONS) if name.startswith(_PREFIX)]
    return [
        f"{name} is no variable of meter-sync{did_you_mean(name, known, but_for=_PREFIX)}"
        for name, value in sorted(environment.items())
        if name.startswith(_PREFIX)
        and name not in known
        and value.strip()
        and not _OF_KUBERNETES.match(f"{name}={value}")
    ]
