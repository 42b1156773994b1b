"""A pipeline of four regions over a random backbone."""

import numpy as np
from tiny_backbone import random_network

from neuroadapter_jax.adapter.decoupled_attention import cross_attention_shapes
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter, NeuroAdapterConfig
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import load_pretrained
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline

LH, RH = 13, 17
V = 5


def make_regions():
    return Parcellation(
        ("a", "b", "c", "d"),
        ("lh", "lh", "rh", "rh"),
        tuple(np.array(v, np.int32) for v in ([0, 3, 5], [7], [1, 2, 8, 11, 16], [4, 6])),
        (LH, RH),
    )


def make_pipeline(random_backbone):
    backbone = load_pretrained(random_backbone)
    widths, heads = map(tuple, cross_attention_shapes(backbone.unet))
    config = NeuroAdapterConfig(4, V, 8, widths, heads)
    adapter = random_network(lambda rngs: NeuroAdapter(config, rngs=rngs), 4)
    return NeuroAdapterPipeline(
        adapter,
        backbone,
        make_regions(),
        backbone_name=str(random_backbone),
        sampling=Sampling(guidance_scale=2.5),
        provenance={"step": 7},
    )
