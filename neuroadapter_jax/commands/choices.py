"""What some flags choose from, for the help; a test compares them with the modules they are from.

Those modules import JAX, and help should not wait for it.
"""

# ibbi.views
REDUCTIONS = ("paper", "attention", "value_norm", "difference", "gradient")
DEFAULT_REDUCTION = "attention"
# evaluation.protocol
CONVENTIONS = ("mindeye", "neuroadapter")
# studies.decoders
METHODS = (
    "mean_image",
    "random_image",
    "retrieval",
    "linear_latents",
    "linear",
    "linear_low_level",
    "brain_diffuser",
    "brain_diffuser_without_vision",
    "brain_diffuser_without_text",
    "brain_diffuser_without_low_level",
    "brain_diffuser_rescaled_on_test",
    "neuroadapter",
    "neuroadapter_low_level",
    "neuroadapter_chosen",
    "neuroadapter_chosen_low_level",
    "true_embedding",
    "autoencoder",
)
PRESETS = ("brain_diffuser",)
_OTHERS = ("brain_diffuser", "true_embedding")
DEFAULT_METHODS = tuple(name for name in METHODS if not name.startswith(_OTHERS))
# studies.benchmark.measure
SIZES = ("tiny-sd", "middle", "sd15")
