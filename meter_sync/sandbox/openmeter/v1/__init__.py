"""The first version of the embedded OpenMeter's API: `/api/v1/…`."""
