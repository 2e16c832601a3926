"""Cameras of the simulator: what they see of the scene that the LiDAR meets, and how it looks on a photograph."""
