"""The ends of billing periods: how they are found, what bills them, and what is concluded of them."""
