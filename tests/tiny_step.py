"""The train step on networks small enough to compile in a second or two."""

import jax
import numpy as np
from flax import nnx
from tiny_backbone import random_network

from neuroadapter_jax.adapter.decoupled_attention import cross_attention_shapes
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter, NeuroAdapterConfig
from neuroadapter_jax.cortex.packing import Packing
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.training.step import Frozen, Objective, make_train_step

B, N, P, V, K, SIZE = 12, 53, 5, 7, 11, 6
SEED = 17
UNET = {
    "block_out_channels": (6,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "layers_per_block": 1,
    "attention_head_dim": 3,
    "cross_attention_dim": 13,
    "norm_num_groups": 3,
    "in_channels": 4,
    "out_channels": 4,
    "sample_size": SIZE,
}


class TinyStep:
    """A step, its frozen part, its first state and its batches."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        optimizer,
        prediction_type="epsilon",
        objective=Objective(),  # noqa: B008
        **options,
    ):
        rng = np.random.default_rng(2)
        widths, heads = map(tuple, cross_attention_shapes(unet))
        config = NeuroAdapterConfig(P, V, 13, widths, heads)
        self.adapter = random_network(lambda rngs: NeuroAdapter(config, rngs=rngs), 2)
        self.schedule = NoiseSchedule(prediction_type=prediction_type)
        self.states = rng.standard_normal((1, K, 13)).astype(np.float32)
        graph, params = nnx.split(unet)
        mask = np.arange(V) < rng.integers(2, V + 1, P)[:, None]
        index = np.where(mask, rng.permutation(N)[: P * V].reshape(P, V), 0).astype(np.int32)
        self.frozen = Frozen(
            params,
            unet.text_context(jax.numpy.asarray(self.states)),
            Packing(jax.numpy.asarray(index), jax.numpy.asarray(mask)),
            0.37,
        )
        self.params = nnx.state(self.adapter, nnx.Param)
        self.optimizer, self.ema = optimizer, options.get("ema_decay") is not None
        self.step = make_train_step(
            nnx.graphdef(self.adapter),
            graph,
            self.schedule,
            optimizer,
            objective,
            seed=SEED,
            **options,
        )

    def state(self):
        def copy(tree):
            return jax.tree.map(jax.numpy.copy, tree)

        state = {
            "params": copy(self.params),
            "opt_state": self.optimizer.init(self.params),
            "step": jax.numpy.zeros((), jax.numpy.int32),
        }
        return state | ({"ema": copy(self.params)} if self.ema else {})

    @staticmethod
    def batch(k, size=B):
        rng = np.random.default_rng([5, k])
        return {
            "betas": rng.standard_normal((size, N)).astype(np.float16),
            "latent_mean": rng.standard_normal((size, SIZE, SIZE, 4)).astype(np.float32),
            "latent_std": rng.random((size, SIZE, SIZE, 4)).astype(np.float32),
            "image": rng.integers(0, 256, (size, 24, 24, 3), np.uint8),
            "image_id": np.arange(size),
        }
