"""Prepared records as a TFDS dataset.

Importing this package imports tensorflow_datasets, which takes seconds, so nothing imports it
before records are to be written. TensorFlow itself is needed by who reads them through tf.data.
"""

from neuroadapter_jax.datasets.tfds.dataset_builder import VERSION as VERSION
from neuroadapter_jax.datasets.tfds.dataset_builder import write_records as write_records
