"""Hypes YAML in, plain mapping out: loading with inheritance, derived keys, section checks, flavors and saving."""
