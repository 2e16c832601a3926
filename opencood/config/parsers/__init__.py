"""The ``yaml_parser`` functions: each takes a configuration and returns a copy with the derived keys filled in."""
