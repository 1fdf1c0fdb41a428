"""Telling others how runs end: that it arrives, and that it can harm no run."""
