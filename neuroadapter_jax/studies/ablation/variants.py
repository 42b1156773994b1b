"""The variants of the method, their labels, and what the paper reports of them."""

from neuroadapter_jax.evaluation.protocol import metric_labels

FULL, NO_SELECTION = "full", "no_encoder_selection"
LABELS = {
    FULL: "full",
    "no_token_dropout": "without token dropout",
    "fixed_drop_rate": "fixed drop rate",
    "no_min_snr": "without Min-SNR",
    NO_SELECTION: "without encoder selection",
    "quarter_p": "p a quarter",
    "double_p": "p double",
    "no_region_structure": "without region structure",
}
# What notes on the paper report, beside its full model; it gives no numbers there. p is 200 in the
# paper's full model, 50 and 400 in its variants.
PAPER = {
    "no_token_dropout": "worse, high level most",
    "no_min_snr": "slightly worse",
    NO_SELECTION: "worse",
    "quarter_p": "worse",
    "double_p": "worse",
}
# In the simulated data, beside the field's metrics: objects found over objects shown.
OBJECTS_FOUND = {"semantic_recall": "semantic recall", "object_identity": "object identity"}
# Which score decides the direction of a level: the first of these that there is.
LEVELS = {
    "low level": ("pixcorr",),
    "high level": ("two_way_clip", "two_way_inception", "two_way_tiny_vit_pooled"),
}


def score_labels() -> dict[str, str]:
    """Every score's label by its name, the published metrics first."""
    return metric_labels() | OBJECTS_FOUND
