"""`meter-sync run`: list, query, plan, check, report, record."""
