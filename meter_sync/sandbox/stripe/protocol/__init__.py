"""How Stripe is talked to: parameters, errors, permissions, versions, limits and idempotency."""
