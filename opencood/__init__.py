"""Collaborative 3D perception: train and evaluate detectors that see together."""

__version__ = "0.1.0"
