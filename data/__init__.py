"""TFDS builders, one folder each."""
