"""The writer of prepared records. It is part of the package: `neuroadapter_jax.datasets.tfds`."""

from neuroadapter_jax.datasets.tfds import VERSION as VERSION
from neuroadapter_jax.datasets.tfds import write_records as write_records
