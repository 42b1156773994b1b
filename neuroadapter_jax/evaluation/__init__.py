"""Scores of reconstructions: pixels, identification, what the picture says."""

from neuroadapter_jax.evaluation.for_cards import card_scores
from neuroadapter_jax.evaluation.frames import load_score_summary, load_scores

__all__ = ["card_scores", "load_score_summary", "load_scores"]
