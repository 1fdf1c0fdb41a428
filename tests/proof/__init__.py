"""Proof that nothing is billed twice or lost, whatever happens while it runs."""
