"""From the fused map to raw predictions."""
