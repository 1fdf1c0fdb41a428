"""The HTTP side of both embedded servers, and what networks do on bad days."""
