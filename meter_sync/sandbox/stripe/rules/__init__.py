"""The rules by which Stripe bills."""
