"""The empty prompt, which is all the text that the U-Net sees."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.text_encoder import CLIPTextConfig
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer, has_tokenizer
from neuroadapter_jax.diffusion.weights import Backbone

# The text encoder of Stable Diffusion 1.x and CLIP's numbers of the start and the end of a text.
_CLIP = CLIPTextConfig()
_START, _END = 49406, 49407


def empty_prompt(backbone: Backbone) -> Stream:
    """The text stream of the empty prompt, batch 1, as the whole run uses it.

    Args:
        backbone: whose text encoder and U-Net are used.
    """
    return backbone.unet.text_context(backbone.text_encoder(jnp.asarray(empty_ids(backbone))))


def empty_ids(backbone: Backbone) -> Int[np.ndarray, "1 k"]:
    """The empty prompt's ids: start, end, and padding.

    They are known for Stable Diffusion 1.x's own text encoder, whose folder may lack a tokenizer.

    Args:
        backbone: whose tokenizer is read.

    Raises:
        MissingFileError: there is no tokenizer, and the text encoder is another one.
    """
    folder = backbone.folder / "tokenizer"
    if not has_tokenizer(folder) and backbone.text_encoder.config == _CLIP:
        ids = [_START] + [_END] * (_CLIP.max_position_embeddings - 1)
        return np.asarray([ids], np.int32)
    return CLIPTokenizer(folder)([""])
