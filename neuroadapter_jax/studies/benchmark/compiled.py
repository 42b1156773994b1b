"""What the compiler says of a training step that no array is allocated for."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.cortex.packing import Packing
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.text_encoder import CLIPTextModel
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.studies.benchmark.measure import Size
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.step import Frozen, make_train_step

# Dense bfloat16 peaks in FLOP/s, from NVIDIA's data sheets (tensor cores, without sparsity).
PEAKS = {"L40": 181.05e12, "H100 SXM": 989.4e12}


@dataclass(frozen=True)
class StepCost:
    """A training step by its compiled program.

    Attributes:
        flops: floating-point operations of the step as written, a multiply-add as two.
        argument_bytes: weights, optimizer, packing and batch.
        temporary_bytes: what the program holds beside them at most; None if not compiled.
    """

    flops: float
    argument_bytes: int
    temporary_bytes: int | None

    def seconds(self, flops_per_second: float) -> float:
        """Time of the step where that many operations run per second."""
        return self.flops / flops_per_second


def train_step_cost(
    size: Size,
    batch: int,
    *,
    remat: bool,
    dtype: Any = jnp.bfloat16,
    num_vertices: int = 327_684,
    compiled: bool = True,
) -> StepCost:
    """Counts of one training step, from shapes alone.

    The temporary bytes are those of this machine's backend: on CPU, without the fusions and the
    attention kernels of a GPU.

    Args:
        size: networks, p and v.
        batch: samples.
        remat: as in training.
        dtype: of the frozen U-Net.
        num_vertices: responses per sample; fsaverage has 2 x 163,842.
        compiled: False only counts operations, which takes seconds.

    Raises:
        RuntimeError: the backend does not analyse compiled programs.
    """
    unet = abstract_network(lambda rngs: UNet2DConditionModel(size.unet, rngs=rngs))
    text = abstract_network(lambda rngs: CLIPTextModel(size.text, rngs=rngs))
    adapter = abstract_network(
        lambda rngs: NeuroAdapter.for_unet(
            UNet2DConditionModel(size.unet, rngs=rngs),
            size.num_regions,
            size.max_vertices,
            rngs=rngs,
        )
    )
    (unet_graph, unet_params), (adapter_graph, params) = nnx.split(unet), nnx.split(adapter)
    optimizer = make_optimizer(make_schedule(1e-4, 1000), weight_decay=1e-6)
    step = make_train_step(
        adapter_graph, unet_graph, NoiseSchedule(), optimizer, seed=0, remat=remat
    )

    def array(dtype, *shape):
        return jax.ShapeDtypeStruct(shape, dtype)

    def empty_prompt(unet_params, text_params):
        states = nnx.merge(text_graph, text_params)(
            jnp.zeros((1, size.text.max_position_embeddings), jnp.int32)
        )
        return nnx.merge(unet_graph, unet_params).text_context(states)

    text_graph, text_params = nnx.split(text)
    regions = (size.num_regions, size.max_vertices)
    frozen = Frozen(
        jax.tree.map(lambda x: array(dtype, *x.shape), unet_params),
        jax.eval_shape(empty_prompt, unet_params, text_params),
        Packing(array(jnp.int32, *regions), array(jnp.bool_, *regions)),
        array(jnp.float32),
    )
    state = {
        "params": params,
        "opt_state": jax.eval_shape(optimizer.init, params),
        "step": array(jnp.int32),
    }
    latents = (batch, size.unet.sample_size, size.unet.sample_size, size.unet.in_channels)
    records = {
        "betas": array(jnp.float16, batch, num_vertices),
        "latent_mean": array(jnp.float16, *latents),
        "latent_std": array(jnp.float16, *latents),
    }
    arguments = (state, frozen, records)
    lowered = step.lower(*arguments)
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(arguments))
    counts = lowered.cost_analysis()
    memory = lowered.compile().memory_analysis() if compiled else None
    if counts is None or (compiled and memory is None):
        raise RuntimeError(
            f"JAX's backend {jax.default_backend()!r} analyses no compiled programs; expected one "
            "that counts operations and bytes, as the CPU's does (JAX_PLATFORMS=cpu)."
        )
    return StepCost(counts["flops"], held, None if memory is None else memory.temp_size_in_bytes)
