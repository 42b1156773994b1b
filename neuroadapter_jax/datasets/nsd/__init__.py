"""The Natural Scenes Dataset and NSD-Imagery, as they are published."""
