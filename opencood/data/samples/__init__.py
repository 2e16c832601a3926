"""Early, late, intermediate and two-stage samples, composed of small steps on a frame."""
