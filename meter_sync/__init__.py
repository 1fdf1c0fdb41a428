"""meter-sync: bills in Stripe exactly the usage that OpenMeter has metered."""

__version__ = "0.1.0"
