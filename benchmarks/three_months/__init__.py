"""Three simulated months of an account, billed in one way or another while things go wrong."""
