"""What an agent sends and how another agent reads it."""
