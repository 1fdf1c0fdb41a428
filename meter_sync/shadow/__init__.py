"""Shadow mode: a sandbox of Stripe's has copies of what an account has, so that all can be tried on real usage."""
