"""What the agents see together: many maps in, the map of the ego out."""
