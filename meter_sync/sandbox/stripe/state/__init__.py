"""What the embedded Stripe holds."""
