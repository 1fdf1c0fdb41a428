"""What is told of the past: histories, explanations, and how Stripe compares with OpenMeter."""
