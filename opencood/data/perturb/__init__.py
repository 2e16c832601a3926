"""Disturbances of a frame: frame in, frame out."""
