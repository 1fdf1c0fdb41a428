"""From an item's usage to what should happen to it, and the brakes that check it."""
