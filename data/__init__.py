"""The datasets that can be prepared, one folder each; the code is `neuroadapter_jax.datasets`."""
