"""How Stripe shows its objects as JSON, in each API version."""
