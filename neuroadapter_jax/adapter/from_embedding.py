"""Images from an image embedding alone, through an image adapter and a frozen U-Net."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, UInt8

from neuroadapter_jax.adapter.guidance import sample_latents_from_streams
from neuroadapter_jax.adapter.image_adapter import ImageAdapter
from neuroadapter_jax.batches import map_batches
from neuroadapter_jax.diffusion.images import to_uint8
from neuroadapter_jax.diffusion.prompt import empty_prompt
from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import Backbone

# At which an image adapter's own images are made, to see what it keeps of an embedding.
CEILING_GUIDANCE = 3.5


def images_from_embedding(
    backbone: Backbone,
    adapter: ImageAdapter,
    embedding: Float[np.ndarray, "b k c"],
    no_image: Float[np.ndarray, "1 k c"],
    sampling: Sampling,
    *,
    seed: int = 0,
    batch_size: int = 20,
) -> UInt8[np.ndarray, "b y x c2"]:
    """Reconstructions of images from their own embedding, with the empty prompt.

    The ceiling of every decoder that predicts the embedding: guided away from the embedding of no
    image, starting from noise that the seed and the place of the image decide.

    Args:
        backbone: frozen.
        adapter: trained with it.
        embedding: of the images, as `ImageEmbedder` gives it.
        no_image: of no image, `ImageEmbedder.of_no_image`.
        sampling: settings of the sampler.
        seed: of the noise, at least 0.
        batch_size: images at once.
    """
    text, schedule = empty_prompt(backbone), backbone.schedule
    graph, params = nnx.split((backbone.unet, backbone.vae, adapter))

    @jax.jit
    def sample(params, embedding, keys):
        unet, vae, image_adapter = nnx.merge(graph, params)
        latents = sample_latents_from_streams(
            unet,
            [text, image_adapter(embedding)],
            [text, image_adapter(jnp.asarray(no_image))],
            keys,
            plan(schedule, sampling),
            sampling.guidance_scale if sampling.is_guided else None,
            schedule.prediction_type,
        )
        return to_uint8(vae.decode(latents / vae.config.scaling_factor))

    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(
        jnp.arange(len(embedding))
    )

    def images_of(rows: np.ndarray) -> np.ndarray:
        return np.asarray(sample(params, jnp.asarray(embedding[rows]), keys[rows]))

    return map_batches(images_of, len(embedding), min(batch_size, len(embedding)))
