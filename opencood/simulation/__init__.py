"""A small world with traffic, ray-cast LiDAR seen from several agents, and writers for data set formats."""
