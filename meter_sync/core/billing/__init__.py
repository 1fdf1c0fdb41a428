"""What Stripe bills, and when: items, their periods, windows, quantities and ways of being told."""
