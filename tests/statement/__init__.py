"""What was billed and what was not, as finance reads it."""
