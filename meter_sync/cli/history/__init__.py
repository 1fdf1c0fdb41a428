"""`meter-sync history`: what the ledger knows; it asks no server."""
