"""MOSAIC, prepared for NeuroAdapter; the writer is `neuroadapter_jax.datasets.tfds`."""

from data.nsd import write_records as write_records
