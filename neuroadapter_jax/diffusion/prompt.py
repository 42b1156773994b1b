"""The empty prompt, which is all the text that the U-Net sees."""

import jax.numpy as jnp

from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.weights import Backbone


def empty_prompt(backbone: Backbone) -> Stream:
    """The text stream of the empty prompt, batch 1, as the whole run uses it."""
    ids = CLIPTokenizer(backbone.folder / "tokenizer")([""])
    return backbone.unet.text_context(backbone.text_encoder(jnp.asarray(ids)))
