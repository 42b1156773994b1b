"""Prepared records as a TFDS dataset. The only code of the project that needs TensorFlow.

Importing this package imports TensorFlow, so nothing imports it before records are to be written.
"""

from neuroadapter_jax.datasets.tfds.dataset_builder import VERSION as VERSION
from neuroadapter_jax.datasets.tfds.dataset_builder import write_records as write_records
