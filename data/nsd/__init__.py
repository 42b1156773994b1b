"""NSD, prepared for NeuroAdapter; the writer is `neuroadapter_jax.datasets.tfds`."""

from data.nsd.nsd_dataset_builder import write_records as write_records
