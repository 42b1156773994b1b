"""Simulated data: OpenMoji scenes and a simulated subject that looks at them."""
