"""Natural Scenes Dataset, prepared for NeuroAdapter."""

from data.nsd.nsd_dataset_builder import write_records as write_records
