"""What of an account's usage was billed in a time, what was not, and why the two agree: for finance."""
