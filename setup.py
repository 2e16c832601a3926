"""Thin shim so that ``python setup.py develop`` works; everything is declared in pyproject.toml."""

from setuptools import setup

setup()
