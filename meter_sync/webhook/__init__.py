"""The webhook: Stripe says that a period turns, and the subscription concerned is reported at once."""
