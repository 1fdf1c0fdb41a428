"""A product to show the program with, in the embedded Stripe and OpenMeter."""
