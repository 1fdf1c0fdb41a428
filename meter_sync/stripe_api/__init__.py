"""Stripe: finding metered items, reading totals, writing usage records, within its limits."""
