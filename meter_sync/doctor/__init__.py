"""Examining an installation: what would keep runs from working, or usage from being billed. Nothing is written."""
