"""Self-supervised pretraining: what is hidden from an encoder, and what it has to predict (spec coopre.md 2-4, 9)."""
