"""NeuroAdapter in JAX: draws what a person saw from their cortical responses."""

__version__ = "0.1.0"
