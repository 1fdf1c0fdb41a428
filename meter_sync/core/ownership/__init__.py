"""Which item bills which usage, where several could."""
