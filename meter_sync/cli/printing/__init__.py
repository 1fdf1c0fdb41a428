"""One way of printing for all commands: a table for a person, json and csv for programs."""
