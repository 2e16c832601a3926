"""Packed data sets: every file of a folder in a few memory-mapped ones, decoded where that saves time."""
