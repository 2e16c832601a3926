"""Detectors: encoders, links, fusion and heads, and the one road through them (see docs/architecture.md)."""
