"""Telling others how runs end: pings, a file for Prometheus, notifications. Nothing here changes a run."""
