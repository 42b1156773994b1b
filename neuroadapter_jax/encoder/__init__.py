"""Predicting the response of the cortex to an image."""
