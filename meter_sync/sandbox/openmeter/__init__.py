"""The embedded OpenMeter."""
