"""The networks of AlexNet(2), AlexNet(5), Inception, CLIP, EffNet-B and SwAV scores, with weights.

AlexNet, Inception v3, EfficientNet-B1 and SwAV's ResNet-50 are torchvision's, CLIP ViT-L/14 is
transformers'; both come with the extra `pytorch`. Their weights are read from local files, or
fetched where that is allowed. tiny-vit ships with the package and runs in JAX.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.encoder.joint_space import ASSET as JOINT_SPACE_ASSET
from neuroadapter_jax.encoder.joint_space import read_joint_space
from neuroadapter_jax.encoder.weights import load_dinov2
from neuroadapter_jax.errors import InputError, MissingFileError, stand_in

Extract = Callable[[Float[np.ndarray, "b y x c"]], dict[str, Float[np.ndarray, "b _f"]]]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP_COLOURS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SWAV_URL = "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar"
CLIP_NAME = "openai/clip-vit-large-patch14"
TINY_VIT_SIDE = 64
# The published names, under which a folder of weights holds them.
FILES = (
    "alexnet-owt-7be5be79.pth",
    "inception_v3_google-0cc3c7bd.pth",
    CLIP_NAME.split("/")[1],
    "efficientnet_b1-c27df63c.pth",
    SWAV_URL.rsplit("/", 1)[1],
)


class MissingWeightsError(MissingFileError):
    """A network is not available here; the message says why and what helps."""


def check_weights(folder: Path) -> None:
    """Refuse a folder of weights that holds none, or one that is plainly no file of weights.

    Raises:
        InputError: so it is; what PyTorch alone can tell, it tells where it reads.
    """
    here = [folder / name for name in FILES if (folder / name).exists()]
    if not here:
        raise InputError(
            f"{folder} holds none of the feature networks' weights; expected some of "
            f"{', '.join(FILES)} (docs/metrics.md says where from)."
        )
    for path in here:
        if path.is_file() and (found := stand_in(path)) is not None:
            raise InputError(f"{path}: {found[0]}; expected a network's weights; {found[1]}.")


@dataclass(frozen=True)
class FeatureMetric:
    """One score: a layer of a network, and how its features are compared.

    Attributes:
        name: key of results.
        label: as papers write it.
        layer: name of the module whose output, flattened, are the features.
        kind: identification among pairs, or mean distance 1 - r.
    """

    name: str
    label: str
    layer: str
    kind: Literal["two_way", "distance"]


@dataclass(frozen=True)
class Network:
    """A frozen network and the images it takes.

    Attributes:
        name: short name.
        size: rows and columns of its input.
        colours: mean and standard deviation per channel of values in 0..1.
        metrics: the scores that read it; all layers come from one pass.
        load: (folder of weights or None, whether to download) -> features by layer of prepared
            images. Raises MissingWeightsError where it is not available, InputError where the
            weights are not this network's.
    """

    name: str
    size: int
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    metrics: tuple[FeatureMetric, ...]
    load: Callable[[Path | None, bool], Extract]


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingWeightsError(
            "PyTorch is not installed; pip install 'neuroadapter-jax[pytorch]'"
        ) from error
    return torch


def _torchvision_models() -> Any:
    torch = _torch()
    try:
        import torchvision
    except ImportError as error:
        raise MissingWeightsError(
            "torchvision is not installed; pip install 'neuroadapter-jax[pytorch]'"
        ) from error
    except Exception as error:  # RuntimeError: the operators of a build for another PyTorch
        raise MissingWeightsError(
            f"torchvision does not start beside PyTorch {torch.__version__} ({error}); install "
            "its build for this PyTorch"
        ) from error
    return torchvision.models


def _checkpoint(url: str, weights: Path | None, download: bool) -> dict[str, Any]:
    """The tensors of a published file: from the given folder, PyTorch's cache, or its address."""
    torch = _torch()
    name = url.rsplit("/", 1)[-1]
    folders = [weights] if weights is not None else []
    folders.append(Path(torch.hub.get_dir()) / "checkpoints")
    for folder in folders:
        if (folder / name).is_file():
            try:
                return torch.load(folder / name, map_location="cpu", weights_only=True)
            except Exception as error:  # whatever a torn or foreign file makes torch say
                raise InputError(
                    f"{folder / name} is no checkpoint that torch.load reads ({_line(error)}); "
                    f"fetch it again from {url}."
                ) from error
    places = " nor ".join(str(folder) for folder in folders)
    if not download:
        raise MissingWeightsError(
            f"{name} is not in {places}; put it there from {url}, or allow the download"
        )
    try:
        return torch.hub.load_state_dict_from_url(
            url,
            map_location="cpu",
            weights_only=True,
            check_hash=re.search(r"-[0-9a-f]{8}\.pth$", name) is not None,
        )
    except Exception as error:  # whatever the network answers with
        raise MissingWeightsError(
            f"{name} is not in {places} and could not be fetched from {url} ({error})"
        ) from error


class _Hooked:
    """A torch module in evaluation mode, and the outputs of some of its layers."""

    def __init__(self, model: Any, layers: tuple[str, ...]):
        torch = _torch()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.caught: dict[str, Any] = {}
        for layer in layers:
            self.model.get_submodule(layer).register_forward_hook(
                lambda module, inputs, output, layer=layer: self.caught.update({layer: output})
            )

    def __call__(self, images: Float[np.ndarray, "b y x c"]) -> dict[str, np.ndarray]:
        torch = _torch()
        batch = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        with torch.inference_mode():
            self.model(batch.to(self.device))
        found = {name: x.flatten(1).float().cpu().numpy() for name, x in self.caught.items()}
        self.caught.clear()
        return found


def _fill(model: Any, tensors: Mapping[str, Any], unused: tuple[str, ...], source: str) -> Any:
    """The model, made without memory, with the tensors named as its own; heads are left out.

    Older files do not count the batches that a norm was trained on; nothing reads that count.

    Raises:
        InputError: a tensor is missing, unknown or of another shape.
    """
    wanted = {name: x for name, x in tensors.items() if not name.startswith(unused)}
    expected = {name: x.shape for name, x in model.state_dict().items()}
    for name in expected:
        if name.endswith("num_batches_tracked"):
            wanted.setdefault(name, _torch().tensor(0))
    found = {name: getattr(x, "shape", None) for name, x in wanted.items()}
    wrong = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
    if wrong:
        name = wrong[0]
        raise InputError(
            f"The weights {source} do not fit the network at {name} ({len(wrong)} such tensors): "
            f"found {_shape(found.get(name))}, expected {_shape(expected.get(name))}."
        )
    model.load_state_dict(wanted, assign=True)
    return model


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _shape(shape: Any) -> str:
    return "no such tensor" if shape is None else str(tuple(shape))


def _load_torchvision(
    weights: Path | None,
    download: bool,
    *,
    build: Callable[[Any], tuple[Any, str]],
    heads: tuple[str, ...],
    unused: tuple[str, ...],
    layers: tuple[str, ...],
) -> Extract:
    """A torchvision network without its heads.

    Args:
        weights: folder of checkpoints.
        download: whether to fetch what is not there.
        build: torchvision.models -> the network, and the address of its weights.
        heads: modules after the last layer read; taken out, their tensors are not asked for.
        unused: what the names of tensors that are not read begin with.
        layers: whose outputs are kept.
    """
    models, torch = _torchvision_models(), _torch()
    with torch.device("meta"):
        model, url = build(models)
        for head in heads:
            setattr(model, head, torch.nn.Identity())
    tensors = _checkpoint(url, weights, download)
    tensors = {name.removeprefix("module."): x for name, x in tensors.items()}
    return _Hooked(_fill(model, tensors, unused, url.rsplit("/", 1)[-1]), layers)


def _alexnet(models: Any) -> tuple[Any, str]:
    return models.alexnet(), models.AlexNet_Weights.IMAGENET1K_V1.url


def _inception(models: Any) -> tuple[Any, str]:
    # As with torchvision's weights: channels are rescaled inside, from ImageNet's mean and
    # deviation to 0.5 and 0.5.
    model = models.inception_v3(transform_input=True, aux_logits=False, init_weights=False)
    return model, models.Inception_V3_Weights.IMAGENET1K_V1.url


def _effnet(models: Any) -> tuple[Any, str]:
    # DEFAULT of MindEye's notebook; Brain-Diffuser's `weights=True` meant IMAGENET1K_V1.
    return models.efficientnet_b1(), models.EfficientNet_B1_Weights.IMAGENET1K_V2.url


def _swav(models: Any) -> tuple[Any, str]:
    return models.resnet50(), SWAV_URL


def _load_clip(weights: Path | None, download: bool) -> Extract:
    """CLIP's image embedding: from weights/clip-vit-large-patch14, the Hub's cache, or the Hub."""
    torch = _torch()
    try:
        from transformers import CLIPVisionModelWithProjection
    except ImportError as error:
        raise MissingWeightsError(
            f"transformers does not start ({error}); pip install 'neuroadapter-jax[pytorch]'"
        ) from error
    folder = None if weights is None else weights / CLIP_NAME.split("/")[1]
    local = folder is not None and folder.is_dir()
    try:
        # A pair with output_loading_info, though the method is annotated to return the model.
        loaded: Any = CLIPVisionModelWithProjection.from_pretrained(
            str(folder) if local else CLIP_NAME,
            local_files_only=local or not download,
            dtype=torch.float32,
            output_loading_info=True,
        )
        model, report = loaded
    except Exception as error:  # whatever the Hub or its cache answers with
        if local:
            raise InputError(
                f"{folder} is no CLIP model in transformers' layout ({_line(error)})."
            ) from error
        places = "the Hub's cache" if folder is None else f"{folder} nor the Hub's cache"
        verb = " and could not be fetched" if download else "; put it there, or allow the download"
        raise MissingWeightsError(f"{CLIP_NAME} is not in {places}{verb}") from error
    if lacking := sorted(report["missing_keys"]):
        raise InputError(
            f"The weights of {folder if local else CLIP_NAME} lack {lacking[0]} and "
            f"{len(lacking) - 1} more tensors of CLIP's image encoder."
        )
    return _Hooked(model, ("visual_projection",))


def load_tiny_vit(weights: Path | None = None, download: bool = False) -> Extract:
    """tiny-vit's patch states after its first block, and after its last, averaged over patches.

    Args:
        weights: not read; the weights are shipped.
        download: not read either.
    """
    graph, params = nnx.split(load_dinov2("tiny-vit"))

    @jax.jit
    def run(images: Float[Array, "b y x c"]) -> dict[str, Float[Array, "b _f"]]:
        model = nnx.merge(graph, params)
        x = model.encoder.layer[0](model.embeddings(images))
        first = x[:, 1:].reshape(len(x), -1)
        for layer in model.encoder.layer[1:]:
            x = layer(x)
        return {"block1": first, "pooled": model.layernorm(x)[:, 1:].mean(axis=1)}

    return lambda images: {name: np.asarray(x) for name, x in run(images).items()}


def load_joint_features(weights: Path | None = None, download: bool = False) -> Extract:
    """tiny-vit's class token in the joint space of scenes and captions.

    Args:
        weights: folder that may hold a folder joint-space of `neuroadapter pretrain-joint-space`;
            else the shipped one.
        download: not read.

    Raises:
        MissingWeightsError: there is no joint space.
    """
    own = None if weights is None else weights / JOINT_SPACE_ASSET.name
    folder = own if own is not None and own.is_dir() else JOINT_SPACE_ASSET
    if not folder.is_dir():
        raise MissingWeightsError(
            f"{folder} is not there; `neuroadapter pretrain-joint-space` makes it"
        )
    space = read_joint_space(folder)
    graph, params = nnx.split(load_dinov2("tiny-vit"))

    @jax.jit
    def run(images: Float[Array, "b y x c"]) -> Float[Array, "b _f"]:
        return space.images(nnx.merge(graph, params)(images)[:, 0])

    return lambda images: {"joint": np.asarray(run(images))}


def _torchvision(build: Callable, heads: tuple[str, ...], unused: tuple[str, ...], *layers: str):
    return functools.partial(
        _load_torchvision, build=build, heads=heads, unused=unused, layers=layers
    )


PUBLISHED_NETWORKS = (
    Network(
        "alexnet",
        256,
        IMAGENET,
        (
            FeatureMetric("two_way_alexnet2", "AlexNet(2)", "features.4", "two_way"),
            FeatureMetric("two_way_alexnet5", "AlexNet(5)", "features.11", "two_way"),
        ),
        _torchvision(_alexnet, ("classifier",), ("classifier.",), "features.4", "features.11"),
    ),
    Network(
        "inception",
        342,
        IMAGENET,
        (FeatureMetric("two_way_inception", "Inception", "avgpool", "two_way"),),
        _torchvision(_inception, ("fc",), ("fc.", "AuxLogits."), "avgpool"),
    ),
    Network(
        "clip",
        224,
        CLIP_COLOURS,
        (FeatureMetric("two_way_clip", "CLIP", "visual_projection", "two_way"),),
        _load_clip,
    ),
    Network(
        "effnet",
        255,
        IMAGENET,
        (FeatureMetric("distance_effnet", "EffNet-B", "avgpool", "distance"),),
        _torchvision(_effnet, ("classifier",), ("classifier.",), "avgpool"),
    ),
    Network(
        "swav",
        224,
        IMAGENET,
        (FeatureMetric("distance_swav", "SwAV", "avgpool", "distance"),),
        _torchvision(_swav, ("fc",), ("fc.", "projection_head.", "prototypes."), "avgpool"),
    ),
)
TINY_VIT = Network(
    "tiny_vit",
    TINY_VIT_SIDE,
    IMAGENET,
    (
        FeatureMetric("two_way_tiny_vit_block1", "tiny-vit, block 1", "block1", "two_way"),
        FeatureMetric("two_way_tiny_vit_pooled", "tiny-vit, pooled", "pooled", "two_way"),
        FeatureMetric("distance_tiny_vit", "tiny-vit distance", "pooled", "distance"),
    ),
    load_tiny_vit,
)
# It tells apart what captions of scenes tell apart, as CLIP does of photographs.
JOINT_SPACE = Network(
    "joint_space",
    TINY_VIT_SIDE,
    IMAGENET,
    (FeatureMetric("two_way_joint_space", "joint space", "joint", "two_way"),),
    load_joint_features,
)
NETWORKS = (*PUBLISHED_NETWORKS, TINY_VIT)
