"""Image networks for camera encoders, with the parameter names of the published checkpoints."""
