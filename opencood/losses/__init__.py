"""Losses: pure functions on prediction maps and targets, and the small classes that a YAML's ``loss`` section names."""
