"""The configuration: environment, TOML file and secret files, every problem named at once."""

from meter_sync.config.settings import OpenMeterSettings, Settings, StripeSettings
from meter_sync.config.sources import ENVIRONMENT, found_file, load

__all__ = ["ENVIRONMENT", "OpenMeterSettings", "Settings", "StripeSettings", "found_file", "load"]
