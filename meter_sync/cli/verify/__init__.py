"""`meter-sync verify`: what Stripe holds against what OpenMeter says, item by item; it writes nothing."""
