"""What one agent sees: sensor data in, a bird's-eye-view map in its own frame out."""
