"""Readers of on-disk layouts and the input pipeline (no TensorFlow here)."""

from neuroadapter_jax.datasets.nsd.subject import NSDSubject as NSDSubject
from neuroadapter_jax.datasets.prepared.records import PreparedDataset as PreparedDataset
