"""Published names of tools/profile.py."""
