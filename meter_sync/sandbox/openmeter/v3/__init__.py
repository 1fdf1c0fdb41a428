"""The third version of the embedded OpenMeter's API: `/api/v3/openmeter/…`, and Konnect's `/v3/openmeter/…`."""
