"""Stable Diffusion 1.x in Flax NNX, in the diffusers layout; knows nothing of brains."""
