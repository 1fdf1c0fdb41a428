"""The embedded Stripe."""
