"""What some flags choose from, for the help; a test compares them with the modules they are from.

Those modules import JAX, and help should not wait for it.
"""

# ibbi.views
REDUCTIONS = ("paper", "attention", "value_norm", "difference", "gradient")
DEFAULT_REDUCTION = "attention"
# evaluation.protocol
CONVENTIONS = ("mindeye", "neuroadapter")
# studies.baselines
METHODS = (
    "mean_image",
    "random_image",
    "retrieval",
    "linear_latents",
    "linear",
    "linear_low_level",
    "neuroadapter",
    "neuroadapter_low_level",
    "neuroadapter_chosen",
    "neuroadapter_chosen_low_level",
    "autoencoder",
)
# studies.benchmark.measure
SIZES = ("tiny-sd", "middle", "sd15")
