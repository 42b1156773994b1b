"""Scores of reconstructions: pixels, identification, what the picture says."""
