"""`meter-sync demo`: the whole job against an embedded Stripe and OpenMeter."""
