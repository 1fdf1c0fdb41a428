"""Making what billing needs in Stripe and OpenMeter: planned first, shown, and then made; usage is never touched."""
