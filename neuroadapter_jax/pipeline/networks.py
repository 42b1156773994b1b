"""The networks of a pipeline as one pytree, which every function of the pipeline takes first."""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int

from neuroadapter_jax.adapter.guidance import Guidance
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.cortex.packing import Packing, pack
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.prompt import empty_prompt
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.diffusion.vae import AutoencoderKL
from neuroadapter_jax.diffusion.weights import Backbone
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.fingerprints import of_tree, of_values
from neuroadapter_jax.pipeline.groups import in_groups
from neuroadapter_jax.sharding import ROWS, make_mesh, replicate


@dataclass(frozen=True)
class Architecture:
    """All of the networks that is not an array; two pipelines of one architecture share programs.

    Attributes:
        adapter: NNX graph of the adapter.
        unet: NNX graph of the U-Net.
        vae: NNX graph of the autoencoder.
        schedule: noise schedule and prediction type.
    """

    adapter: Any
    unet: Any
    vae: Any
    schedule: NoiseSchedule

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.adapter, self.unet, self.vae, self.schedule))

    def __hash__(self) -> int:
        # jit asks at every call, and the graph of a U-Net is long.
        return self._hash


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["adapter", "unet", "vae", "text", "packing"],
    meta_fields=["architecture"],
)
@dataclass(frozen=True)
class Networks:
    """Adapter, U-Net and autoencoder, and what is computed of them once.

    Attributes:
        adapter: the adapter's parameters.
        unet: the U-Net's parameters.
        vae: the autoencoder's parameters.
        text: the empty prompt's stream, batch 1.
        packing: where each region's vertices lie.
        architecture: what is no array.
    """

    adapter: Any
    unet: Any
    vae: Any
    text: Stream
    packing: Packing
    architecture: Architecture

    @classmethod
    def of(cls, adapter: NeuroAdapter, backbone: Backbone, packing: Packing) -> "Networks":
        """The networks of a trained adapter and the backbone it was trained on."""
        modules = {"adapter": adapter, "unet": backbone.unet, "vae": backbone.vae}
        graphs = {name: nnx.graphdef(module) for name, module in modules.items()}
        params = {name: nnx.state(module, nnx.Param) for name, module in modules.items()}
        return cls(
            **params,
            text=empty_prompt(backbone),
            packing=packing,
            architecture=Architecture(**graphs, schedule=backbone.schedule),
        )

    @property
    def schedule(self) -> NoiseSchedule:
        """Noise schedule and prediction type."""
        return self.architecture.schedule

    def merge_adapter(self) -> NeuroAdapter:
        """The adapter as a module."""
        return nnx.merge(self.architecture.adapter, self.adapter)

    def merge_unet(self) -> UNet2DConditionModel:
        """The U-Net as a module."""
        return nnx.merge(self.architecture.unet, self.unet)

    def merge_vae(self) -> AutoencoderKL:
        """The autoencoder as a module."""
        return nnx.merge(self.architecture.vae, self.vae)

    def fingerprint(self) -> dict[str, str]:
        """One fingerprint per network, of its arrays, and one of the noise schedule."""
        parts = {"adapter": self.adapter, "unet": self.unet, "vae": self.vae}
        parts["regions"] = self.packing
        found = {name: of_tree(part) for name, part in parts.items()}
        return found | {"schedule": of_values(dataclasses.asdict(self.schedule))}

    def pack(self, fmri: Float[Array, "b n"]) -> Float[Array, "b p v"]:
        """Responses of the whole cortex by region, zero in empty vertex slots."""
        return pack(fmri, self.packing)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["fmri", "sample_ids", "key", "guidance_scale", "keep"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Request:
    """The responses of one call, and what decides their noise.

    Attributes:
        fmri: responses of the whole cortex.
        sample_ids: numbers that name the samples' noise.
        key: of the seed.
        guidance_scale: g of `Guidance`; None for none.
        keep: False drops a sample's token; None keeps all.
    """

    fmri: Float[Array, "b n"]
    sample_ids: Int[Array, " b"]
    key: Array
    guidance_scale: Float[Array, ""] | None
    keep: Bool[Array, "b k"] | None = None

    def rows(self, rows: slice) -> "Request":
        """The same of some of the responses."""
        keep = None if self.keep is None else self.keep[rows]
        return dataclasses.replace(
            self, fmri=self.fmri[rows], sample_ids=self.sample_ids[rows], keep=keep
        )

    def noise_keys(self, numbers: Int[Array, "b s"]) -> Array:
        """[b s] keys of candidates: fold_in(fold_in(key, sample id), number of the candidate)."""
        return jax.vmap(lambda i, j: jax.random.fold_in(jax.random.fold_in(self.key, i), j))(
            jnp.repeat(self.sample_ids, numbers.shape[1]), numbers.reshape(-1)
        )


def guidance_of(
    networks: Networks, request: Request, keys: Array, repeats: int, mesh: Mesh
) -> tuple[Guidance, Array]:
    """What the prediction for every sample is conditioned on, and the keys, cut over the devices.

    Args:
        networks: of the pipeline.
        request: the responses.
        keys: one per sample.
        repeats: samples per response.
        mesh: whose devices share the samples.
    """
    adapter = networks.merge_adapter()
    brain = adapter(networks.pack(request.fmri), request.keep)
    streams = jax.tree.map(
        lambda x: x if repeats == 1 else jnp.repeat(x, repeats, axis=0), (brain.keys, brain.values)
    )
    keys, (brain_keys, brain_values) = jax.lax.with_sharding_constraint(
        (keys, streams), NamedSharding(mesh, ROWS)
    )
    guidance = Guidance(
        networks.text,
        Stream(brain_keys, brain_values, brain.scale),
        adapter.unconditional(),
        request.guidance_scale,
    )
    return guidance, keys


class Placement:
    """The networks on as many of this process's devices as share the images evenly.

    Args:
        networks: of the pipeline, on any device.

    Attributes:
        images_at_once: most images that a device samples at once; None for all of a call.
    """

    def __init__(self, networks: Networks):
        self.networks = networks
        self.images_at_once: int | None = None
        self._placed: dict[int, Networks] = {}

    @property
    def num_devices(self) -> list[int]:
        """On how many devices the networks lie now."""
        return list(self._placed)

    def groups(self, num: int, columns: int = 1) -> list[tuple[slice, slice]]:
        """Rows and columns of the images that are sampled at once, see `in_groups`."""
        most = self.images_at_once
        if most is not None:
            most *= math.gcd(num * columns, jax.local_device_count())
        return in_groups(num, columns, most)

    def __call__(self, num_images: int) -> tuple[Mesh, Networks]:
        """A mesh whose devices divide the number of images, and the networks on all of them."""
        devices = jax.local_devices()
        count = math.gcd(num_images, len(devices))
        mesh = make_mesh(devices=devices[:count])
        if count not in self._placed:
            self._placed = {count: replicate(self.networks, mesh)}
        return mesh, self._placed[count]


def as_sample_ids(sample_ids: Int[np.ndarray, " b"] | None, count: int) -> Int[Array, " b"]:
    """The numbers that name the samples' noise: 0 ... b - 1 when None.

    Raises:
        InputError: another number of them, or something else than whole numbers of 32 bits.
    """
    ids = np.arange(count) if sample_ids is None else np.asarray(sample_ids)
    if ids.shape != (count,) or ids.dtype.kind not in "iu":
        raise InputError(
            f"sample_ids is {ids.dtype} of shape {ids.shape}; expected {count} whole numbers, one "
            "per response."
        )
    if count and not 0 <= ids.min() <= ids.max() < 2**31:
        raise InputError(
            f"sample_ids is between {ids.min()} and {ids.max()}; expected from 0 to below 2**31."
        )
    return jnp.asarray(ids, jnp.int32)
