"""Thin shim so that ``python setup.py develop`` works; everything is declared in pyproject.toml."""

import subprocess
import sys

from setuptools import setup

if sys.argv[1:] == ["develop"]:
    # The develop command of older setuptools bypasses pip, ignores wheels and tries to compile dependencies.
    sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "--editable", "."]))

setup()
