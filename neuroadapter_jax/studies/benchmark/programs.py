"""The programs whose cost is asked for, from shapes alone: no array is allocated for them."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.cortex.packing import Packing
from neuroadapter_jax.cortex.parcellation import HEMISPHERES, MESHES, Parcellation
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.precision import PRECISIONS, Precision
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.text_encoder import CLIPTextModel
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.diffusion.vae import AutoencoderKL
from neuroadapter_jax.encoder.features import Features
from neuroadapter_jax.encoder.region_encoder import RegionEncoder, RegionEncoderConfig, make_rows
from neuroadapter_jax.encoder.scoring import candidate_scores, packed_prediction
from neuroadapter_jax.encoder.vit import Dinov2Config, Dinov2Model
from neuroadapter_jax.pipeline.interpret import sample_with_views
from neuroadapter_jax.pipeline.networks import Architecture, Networks, Request
from neuroadapter_jax.pipeline.reconstruct import Steps, sample_candidates
from neuroadapter_jax.sharding import ROWS, WHOLE, shardings
from neuroadapter_jax.studies.benchmark.measure import Size
from neuroadapter_jax.training.backbone import initial_state, make_step
from neuroadapter_jax.training.brain_encoder import make_encoder_loss
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.step import Frozen, make_train_step

NUM_VERTICES = 2 * MESHES["fsaverage"]
NUM_ROIS = 12
_BASE = Dinov2Config()


@dataclass(frozen=True)
class Workload:
    """How much each program does at once.

    Attributes:
        batch: samples of a training step, of the adapter or of an encoder.
        images: images sampled at once.
        candidates: images of one response that are ranked at once.
        num_steps: denoising steps.
        num_parcels: regions of the encoder's parcellation.
        num_vertices: responses per sample; fsaverage has 2 x 163,842.
        vit: the vision transformer that encoders stand on; the sizes of facebook/dinov2-base.
    """

    batch: int = 16
    images: int = 8
    candidates: int = 32
    num_steps: int = 50
    num_parcels: int = 1000
    num_vertices: int = NUM_VERTICES
    vit: Dinov2Config = _BASE


@dataclass(frozen=True)
class Program:
    """A jitted function and what it is lowered with.

    Attributes:
        function: the function itself, as the package runs it.
        arguments: shapes, types and places in the place of arrays.
        options: further, static arguments.
        loop: whether its cost is that of one turn of its longest loop, such as a sampling step.
        trains: whether the first of its results takes the place of its first argument.
    """

    function: Any
    arguments: tuple
    options: Mapping[str, Any]
    loop: bool = False
    trains: bool = False

    def lower(self) -> Any:
        """The lowered program, for the platform of the arguments' places."""
        return self.function.lower(*self.arguments, **self.options)


def array(dtype: Any, *shape: int) -> Any:
    """An array that is not there: its shape and type, where the programs take arrays."""
    return jax.ShapeDtypeStruct(shape, dtype)


def placed(tree: Any, mesh: Mesh | None, spec: Any = WHOLE) -> Any:
    """Shapes on the devices of a mesh, all cut alike; as they are without one."""
    if mesh is None:
        return tree
    place = NamedSharding(mesh, spec)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)


def _networks(size: Size, dtype: Any) -> tuple[dict[str, Any], dict[str, Any], Stream, Packing]:
    """Graphs and parameters of adapter, U-Net and autoencoder; the empty prompt; the packing."""
    modules = {
        "unet": abstract_network(lambda rngs: UNet2DConditionModel(size.unet, rngs=rngs)),
        "vae": abstract_network(lambda rngs: AutoencoderKL(size.vae, rngs=rngs)),
        "adapter": abstract_network(
            lambda rngs: NeuroAdapter.for_unet(
                UNet2DConditionModel(size.unet, rngs=rngs),
                size.num_regions,
                size.max_vertices,
                rngs=rngs,
            )
        ),
    }
    text = abstract_network(lambda rngs: CLIPTextModel(size.text, rngs=rngs))
    graphs, params = {}, {}
    for name, module in modules.items():
        graphs[name], params[name] = nnx.split(module)
    params["unet"] = jax.tree.map(lambda x: array(dtype, *x.shape), params["unet"])
    text_graph, text_params = nnx.split(text)

    def empty_prompt(unet_params, text_params):
        states = nnx.merge(text_graph, text_params)(
            jnp.zeros((1, size.text.max_position_embeddings), jnp.int32)
        )
        return nnx.merge(graphs["unet"], unet_params).text_context(states)

    stream = jax.eval_shape(empty_prompt, params["unet"], text_params)
    regions = (size.num_regions, size.max_vertices)
    packing = Packing(array(jnp.int32, *regions), array(jnp.bool_, *regions))
    return graphs, params, stream, packing


def training_step(
    size: Size,
    workload: Workload,
    mesh: Mesh | None,
    *,
    remat: bool = False,
    dtype: Any = jnp.bfloat16,
) -> Program:
    """A training step of the adapter; `dtype` is the frozen U-Net's."""
    graphs, params, text, packing = _networks(size, dtype)
    optimizer = make_optimizer(make_schedule(1e-4, 1000), weight_decay=1e-6)
    step = make_train_step(
        graphs["adapter"],
        graphs["unet"],
        NoiseSchedule(),
        optimizer,
        seed=0,
        remat=remat,
        mesh=mesh,
    )
    frozen = Frozen(params["unet"], text, packing, array(jnp.float32))
    state = {
        "params": params["adapter"],
        "opt_state": jax.eval_shape(optimizer.init, params["adapter"]),
        "step": array(jnp.int32),
    }
    side, channels = size.unet.sample_size, size.unet.in_channels
    latents = array(jnp.float16, workload.batch, side, side, channels)
    records = {
        "betas": array(jnp.float16, workload.batch, workload.num_vertices),
        "latent_mean": latents,
        "latent_std": latents,
    }
    if mesh is not None:
        places = shardings((state, frozen), mesh)
        state, frozen = jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            (state, frozen),
            places,
        )
    arguments = (state, frozen, placed(records, mesh, ROWS))
    return Program(step, arguments, {}, trains=True)


def sampling_step(
    size: Size, workload: Workload, mesh: Mesh, *, views: bool, dtype: Any = jnp.bfloat16
) -> Program:
    """Guided sampling and decoding, one candidate per response, as the pipeline calls it."""
    graphs, params, text, packing = _networks(size, dtype)
    networks = Networks(
        **params,
        text=text,
        packing=packing,
        architecture=Architecture(**graphs, schedule=NoiseSchedule()),
    )
    b = workload.images
    request = Request(
        fmri=array(jnp.float32, b, workload.num_vertices),
        sample_ids=array(jnp.int32, b),
        key=jax.eval_shape(lambda: jax.random.key(0)),
        guidance_scale=array(jnp.float32),
    )
    sampling = Sampling("ddpm", workload.num_steps)
    networks, request = placed((networks, request), mesh)
    if not views:
        numbers = placed(array(jnp.int32, b, 1), mesh)
        options = {"steps": Steps.of(sampling), "mesh": mesh}
        return Program(
            sample_candidates, (networks, request, numbers, None, None), options, loop=True
        )
    weights = placed(array(jnp.float32, NUM_ROIS, size.num_regions), mesh)
    options = {
        "sampling": sampling.replace(guidance_scale=1.0),
        "reduction": "attention",
        "layer_weighting": "queries",
        "shown": (),
        "mesh": mesh,
    }
    arguments = (networks, request, weights, placed(array(jnp.int32), mesh))
    return Program(sample_with_views, arguments, options, loop=True)


def even_parcellation(num_regions: int, num_vertices: int) -> Parcellation:
    """Regions of one size that tile both hemispheres, since the cost asks for sizes alone."""
    counts = (num_regions // 2, num_regions - num_regions // 2)
    half = num_vertices // 2
    parts = [np.array_split(np.arange(half, dtype=np.int32), count) for count in counts]
    return Parcellation(
        tuple(
            f"{side}{i}"
            for side, part in zip(HEMISPHERES, parts, strict=True)
            for i in range(len(part))
        ),
        tuple(side for side, part in zip(HEMISPHERES, parts, strict=True) for _ in part),
        tuple(vertices for part in parts for vertices in part),
        (half, half),
    )


def _encoder(num_regions: int, rows: Any, backbone: Dinov2Config) -> tuple[Any, Any]:
    config = RegionEncoderConfig(
        num_regions=num_regions,
        num_rows=len(rows.region),
        row_length=rows.packing.index.shape[1],
        width=backbone.hidden_size,
        num_heads=backbone.num_attention_heads * 4 // 3,
    )
    return nnx.split(abstract_network(lambda rngs: RegionEncoder(config, rngs=rngs)))


def encoder_step(size: Size, workload: Workload, mesh: Mesh) -> Program:
    """A training step of one brain encoder on features that were computed before, in float32."""
    features, backbone = Features(), workload.vit
    rows = make_rows(even_parcellation(workload.num_parcels, workload.num_vertices))
    graph, params = _encoder(workload.num_parcels, rows, backbone)
    side = features.padded_size // backbone.patch_size
    optimizer = make_optimizer(make_schedule(5e-4, 1000), weight_decay=1e-4, clip_norm=0.1)
    step = make_step(make_encoder_loss(graph, (side, side), rows), optimizer, 0, None)
    state = jax.eval_shape(lambda p: initial_state(p, optimizer, ema=False), params)
    records = {
        "features": array(jnp.float16, workload.batch, side * side, backbone.hidden_size),
        "betas": array(jnp.float16, workload.batch, workload.num_vertices),
    }
    arguments = (placed(state, mesh), placed(records, mesh, ROWS))
    return Program(step, arguments, {}, trains=True)


def ranking(
    size: Size, workload: Workload, mesh: Mesh, *, precision: Precision = "bf16"
) -> Program:
    """Scores of the candidates of one response by an ensemble of four."""
    features, backbone, blocks = Features(), workload.vit, (1, 3, 5, 7)
    share = workload.num_vertices * size.num_regions // workload.num_parcels
    rows = make_rows(even_parcellation(size.num_regions, share))
    side = features.padded_size // backbone.patch_size
    vit = nnx.split(abstract_network(lambda rngs: Dinov2Model(backbone, rngs=rngs)))
    parts = [vit, *[_encoder(size.num_regions, rows, backbone) for _ in blocks]]
    graphs, states = zip(*parts, strict=True)
    packed = packed_prediction(graphs, features, blocks, (side, side), rows)
    scores = functools.partial(candidate_scores(packed, rows), chunk=workload.candidates)
    slots = rows.packing.index.shape
    dtype = PRECISIONS[precision]
    states = jax.tree.map(lambda x: array(dtype, *x.shape), list(states))
    params = (states, array(jnp.float32, len(blocks), *slots))
    pixels = size.vae.sample_size
    images = array(jnp.uint8, 1, workload.candidates, pixels, pixels, 3)
    arguments = (params, array(jnp.bool_, *slots), images, array(jnp.float32, 1, share))
    return Program(jax.jit(scores), placed(arguments, mesh), {})


PROGRAMS: dict[str, Callable[[Size, Workload, Mesh], Program]] = {
    "training step": training_step,
    "sampling step": functools.partial(sampling_step, views=False),
    "sampling step with views": functools.partial(sampling_step, views=True),
    "ranking": ranking,
    "encoder training step": encoder_step,
}


def make_program(name: str, size: Size, workload: Workload, mesh: Mesh) -> Program:
    """One of `PROGRAMS` on the devices of a mesh."""
    return PROGRAMS[name](size, workload, mesh)
