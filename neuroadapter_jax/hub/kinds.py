"""What an adapter and a brain encoder consist of on the Hub, and what their cards say of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.readers import read_json

CONFIG, CARD = "config.json", "README.md"


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        what: it is, with its article.
        maker: of its folders, for messages.
        files: that its folder holds beside config.json; the first is known by its name.
        optional: that its folder may hold as well.
        weights: pattern of the files that hold weights.
        backbone: the keys under which config.json names the backbone.
        key: of config.json that no other kind has.
        tags: of the card.
        code: how it is loaded; {repo} stands for its name on the Hub.
        use: what goes in and what comes out, a sentence or two.
        limits: what it cannot do, as the items of a list.
    """

    what: str
    maker: str
    files: tuple[str, ...]
    weights: str
    backbone: tuple[str, ...]
    key: str
    tags: tuple[str, ...]
    code: str
    use: str
    limits: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def patterns(self) -> list[str]:
        """Of all its files."""
        return [CONFIG, self.weights, *self.files[1:], *self.optional]

    def backbone_of(self, config: Mapping[str, Any]) -> str:
        """The backbone that a config.json names."""
        found: Any = config
        for key in self.backbone:
            found = found[key] if isinstance(found, Mapping) and key in found else ""
        return str(found)


_TAGS = ("neuroadapter", "jax", "flax", "fmri", "neuroscience", "visual-cortex")
_ONE_SUBJECT = (
    "It is of one subject: responses have to come from the same person, on the same surface and "
    "normalised in the same way as in training. It says nothing about anybody else."
)
ADAPTER = Kind(
    what="a NeuroAdapter",
    maker="`neuroadapter export`",
    files=("adapter.safetensors", "regions.npz"),
    optional=("lora.safetensors",),
    weights="adapter.safetensors",
    backbone=("backbone",),
    key="token_width",
    tags=(*_TAGS, "brain-decoding", "image-reconstruction", "interpretability"),
    code=(
        "from neuroadapter_jax import NeuroAdapterPipeline\n\n"
        'pipe = NeuroAdapterPipeline.from_pretrained("{repo}")\n'
        "images = pipe(fmri)  # uint8 [b, s, y, x, 3]"
    ),
    use=(
        "It reconstructs what a person saw from the fMRI responses of their visual cortex, and "
        "shows which region drove which part of the image. `fmri` holds one response per row, all "
        "vertices of the left, then of the right hemisphere. The weights of the frozen diffusion "
        "model are not in this repository: they are loaded from where the table below says, under "
        "their own licence."
    ),
    limits=(
        _ONE_SUBJECT,
        "A reconstruction is a sample of a diffusion model, which paints something plausible where "
        "the responses say little. What is in it need not have been in the stimulus.",
        "It was trained on what people saw in a scanner. It reads no thoughts, and it is for "
        "research, not for decisions about a person.",
    ),
)
ENCODER = Kind(
    what="a brain encoder",
    maker="`neuroadapter train-encoder`",
    files=("encoder_0.safetensors", "regions.npz", "validation.npz"),
    weights="encoder_*.safetensors",
    backbone=("features", "backbone"),
    key="features",
    tags=(*_TAGS, "brain-encoding"),
    code=(
        "from neuroadapter_jax import BrainEncoder\n\n"
        'encoder = BrainEncoder.from_pretrained("{repo}")\n'
        "fmri = encoder.predict(images)  # images: uint8 [b, y, x, 3]"
    ),
    use=(
        "It predicts the response of the whole cortex to an image, and so ranks candidate "
        "reconstructions by how well the predicted response fits the measured one. The weights of "
        "the frozen vision transformer are not in this repository: they are loaded from where the "
        "table below says, under their own licence."
    ),
    limits=(
        _ONE_SUBJECT,
        "Vertices that it cannot predict are in validation.npz with their correlation on "
        "validation images, and do not count when candidates are ranked.",
    ),
)
KINDS = (ADAPTER, ENCODER)


def require_kind(folder: str | Path, kind: Kind) -> dict[str, Any]:
    """The config.json of a model's folder, whose files are all there.

    Args:
        folder: the model's.
        kind: it should be of.

    Raises:
        MissingFileError: a file is not there.
        InputError: the folder holds a model of another kind.
    """
    folder = Path(folder)
    require_not_other_kind(folder, kind)
    for name in (CONFIG, *kind.files):
        if not (folder / name).is_file():
            raise MissingFileError(
                f"{folder / name}: not found; expected {kind.what}, a folder of {kind.maker}."
            )
    return read_json(folder / CONFIG, f"the settings of {kind.what}")


def require_not_other_kind(folder: str | Path, kind: Kind, name: str | None = None) -> None:
    """Refuse a folder whose config.json is of another kind of model.

    Args:
        folder: the model's; config.json need not be there.
        kind: it should be of.
        name: of the folder, for the message.

    Raises:
        InputError: it holds a model of another kind.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        return
    config = read_json(path, "the settings of a model")
    for other in KINDS:
        if other is not kind and other.key in config and kind.key not in config:
            raise InputError(
                f"{name or folder} holds {other.what}; expected {kind.what}, a folder of "
                f"{kind.maker}."
            )
