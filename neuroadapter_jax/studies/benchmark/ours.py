"""The procedure of this package, as the benchmark calls it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jaxtyping import Float, UInt8

from neuroadapter_jax.adapter.guidance import Guidance, sample_latents
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.cortex.packing import Packing
from neuroadapter_jax.diffusion.images import to_uint8
from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import Backbone
from neuroadapter_jax.ibbi.views import attention_probes
from neuroadapter_jax.sharding import ROWS, make_mesh, replicate, shard
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.step import Frozen, make_train_step

NUM_ROIS = 8


class Ours:
    """The jitted functions of one size, on as many devices as share a batch evenly.

    Args:
        backbone: frozen.
        adapter: to train and to reconstruct with.
        empty_ids: token ids of the empty prompt [1, k].
        devices: None takes all.
    """

    def __init__(
        self,
        backbone: Backbone,
        adapter: NeuroAdapter,
        empty_ids: np.ndarray,
        devices: Sequence | None = None,
    ):
        self.mesh = make_mesh(devices=devices)
        self.schedule = backbone.schedule
        modules = {"adapter": adapter, "unet": backbone.unet, "vae": backbone.vae}
        self.graphs = {name: nnx.graphdef(module) for name, module in modules.items()}
        self.params = replicate(
            {name: nnx.state(module, nnx.Param) for name, module in modules.items()}, self.mesh
        )
        self.text = replicate(
            backbone.unet.text_context(backbone.text_encoder(jnp.asarray(empty_ids))), self.mesh
        )
        p, v = adapter.config.num_regions, adapter.config.max_vertices
        packing = Packing(jnp.arange(p * v, dtype=jnp.int32).reshape(p, v), jnp.ones((p, v), bool))
        self.frozen = Frozen(
            self.params["unet"],
            self.text,
            replicate(packing, self.mesh),
            backbone.vae.config.scaling_factor,
        )
        optimizer = make_optimizer(
            make_schedule(1e-4, 1000, schedule="constant"), weight_decay=1e-6
        )
        self.step = make_train_step(
            self.graphs["adapter"],
            self.graphs["unet"],
            self.schedule,
            optimizer,
            seed=0,
            mesh=self.mesh,
        )
        start = jax.tree.map(jnp.copy, self.params["adapter"])
        self.state = shard(
            {
                "params": start,
                "opt_state": optimizer.init(start),
                "step": jnp.zeros((), jnp.int32),
            },
            self.mesh,
        )
        rng = np.random.default_rng(0)
        shares = rng.random((NUM_ROIS, p)).astype(np.float32)
        self.roi_weights = jnp.asarray(shares / shares.sum(axis=1, keepdims=True))
        self._predict = jax.jit(self._prediction)
        self._gradient = jax.jit(
            jax.grad(lambda *arguments: jnp.mean(self._prediction(*arguments) ** 2))
        )
        self._reconstruct_jitted = jax.jit(
            self._reconstruct, static_argnames=("num_steps", "keep_attention")
        )

    def _prediction(self, params, unet_params, latents, timesteps, packed):
        brain = nnx.merge(self.graphs["adapter"], params)(packed)
        return nnx.merge(self.graphs["unet"], unet_params)(latents, timesteps, [self.text, brain])

    def _rows(self, arrays: Any) -> Any:
        """Arrays cut over the devices by their first axis."""
        return jax.device_put(arrays, NamedSharding(self.mesh, ROWS))

    def predict(self, latents, timesteps, packed) -> jax.Array:
        """The noise prediction [b, y, x, c]."""
        own, inputs = self.params, self._rows((latents, timesteps, packed))
        return self._predict(own["adapter"], own["unet"], *inputs)

    def gradient(self, latents, timesteps, packed) -> nnx.State:
        """The adapter's gradient of the mean square of the prediction."""
        own, inputs = self.params, self._rows((latents, timesteps, packed))
        return self._gradient(own["adapter"], own["unet"], *inputs)

    def train_step(self, batch: dict[str, np.ndarray]) -> jax.Array:
        """One step on prepared records; returns the loss."""
        self.state, metrics = self.step(self.state, self.frozen, self._rows(batch))
        return metrics["loss"]

    def _reconstruct(self, params, packed, key, guidance_scale, *, num_steps, keep_attention):
        adapter, unet, vae = (
            nnx.merge(self.graphs[name], params[name]) for name in ("adapter", "unet", "vae")
        )

        brain = adapter(packed)
        # What both views need: each region's share, and where ROIs are attended.
        probes = attention_probes(unet, brain, self.roi_weights, "attention")
        latents, probed = sample_latents(
            unet,
            Guidance(self.text, brain, adapter.unconditional(), guidance_scale),
            jax.lax.with_sharding_constraint(
                jax.random.split(key, len(packed)), NamedSharding(self.mesh, ROWS)
            ),
            plan(self.schedule, Sampling("ddpm", num_steps)),
            self.schedule.prediction_type,
            probes if keep_attention else None,
        )
        return to_uint8(vae.decode(latents / vae.config.scaling_factor)), probed

    def reconstruct(
        self,
        packed: Float[np.ndarray, "b p v"],
        num_steps: int,
        guidance_scale: float,
        keep_attention: bool = False,
    ) -> UInt8[np.ndarray, "b y x 3"]:
        """Images; with the attention of all layers and steps reduced to what IBBI needs."""
        images, probed = self._reconstruct_jitted(
            self.params,
            self._rows(packed),
            jax.random.key(0),
            guidance_scale,
            num_steps=num_steps,
            keep_attention=keep_attention,
        )
        jax.tree.map(np.asarray, probed)
        return np.asarray(images)
