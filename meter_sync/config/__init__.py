"""The configuration: environment, TOML file and secret files, every problem named at once."""

from meter_sync.config.configuration import Configuration
from meter_sync.config.ledgers import usual_ledgers
from meter_sync.config.origins import DEFAULT, Origin
from meter_sync.config.places import absolute, found_file, usual_places
from meter_sync.config.secrets import (
    LEDGER_PASSWORD,
    MASKED,
    NOTIFY_FILE,
    OPENMETER_KEY,
    SECRETS,
    SETUP_KEY,
    SETUP_KEY_VARIABLE,
    SHADOW_KEY,
    STRIPE_KEY,
    WEBHOOK_SECRET,
    SecretSetting,
)
from meter_sync.config.servers import OpenMeterSettings, StripeSettings
from meter_sync.config.settings import MonitorSettings, Settings
from meter_sync.config.sources import load, needed, read
from meter_sync.config.variables import ENVIRONMENT, OF_OPTIONS

__all__ = [
    "DEFAULT",
    "ENVIRONMENT",
    "LEDGER_PASSWORD",
    "MASKED",
    "NOTIFY_FILE",
    "OF_OPTIONS",
    "OPENMETER_KEY",
    "SECRETS",
    "SETUP_KEY",
    "SETUP_KEY_VARIABLE",
    "SHADOW_KEY",
    "STRIPE_KEY",
    "WEBHOOK_SECRET",
    "Configuration",
    "MonitorSettings",
    "OpenMeterSettings",
    "Origin",
    "SecretSetting",
    "Settings",
    "StripeSettings",
    "absolute",
    "found_file",
    "load",
    "needed",
    "read",
    "usual_ledgers",
    "usual_places",
]
