"""Training: loss, train step, optimizer, training loop, checkpoints."""
