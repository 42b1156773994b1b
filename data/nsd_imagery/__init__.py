"""NSD-Imagery, prepared for NeuroAdapter, by the writer of `data/nsd`."""

from data.nsd import write_records as write_records
