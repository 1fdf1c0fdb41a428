"""What OpenMeter is asked for: which meter and subjects are behind an item, in as few queries as possible."""
