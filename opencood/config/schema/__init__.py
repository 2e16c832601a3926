"""What a configuration may hold: every section and key, as one table."""
