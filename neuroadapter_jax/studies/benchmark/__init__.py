"""Ours beside a plain PyTorch implementation of the released procedure, timed in one run."""
