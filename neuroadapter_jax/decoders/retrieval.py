"""The retrieval baseline: the image whose predicted response fits the measured one best."""

import dataclasses
import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import Float, Int, UInt8

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.encoder.ranking import ROUNDING, pairwise_correlation
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.files import write_npz
from neuroadapter_jax.fingerprints import of_values
from neuroadapter_jax.locks import only_run
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.readers import read_npz, read_rgb, require_picture

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_THUMBNAIL = 8
# Mean absolute difference, in grey levels, up to which two pictures count as one: what saving as
# JPEG changes. Pictures of different objects differ by tens.
_SAME_PICTURE = 2.0


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Images to choose from, read a part at a time.

    Attributes:
        name: where they come from.
        keys: a name for each.
        read: rows of the gallery -> images of one size.
        image_ids: of prepared records, their 0-based 73k ids; None for other pictures.
        fingerprint: of the images; of a folder of pictures, of their names and sizes in bytes.
    """

    name: str
    keys: tuple[str, ...]
    read: Callable[[Int[np.ndarray, " b"]], UInt8[np.ndarray, "b y x c"]]
    image_ids: Int[np.ndarray, " k"] | None = None
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.keys)


def gallery_of_records(dataset: PreparedDataset) -> Gallery:
    """The images of a prepared split.

    Args:
        dataset: a split of prepared records, not "test".

    Raises:
        InputError: it is the test split.
    """
    if dataset.split == "test":
        raise InputError(
            "The test split is what is decoded, so it cannot be the reference set; take the "
            "training split."
        )
    return Gallery(
        f"{dataset.path} ({dataset.split})",
        tuple(str(i) for i in dataset.image_ids),
        lambda rows: np.stack([dataset[int(row)]["image"] for row in rows]),
        dataset.image_ids,
        dataset.fingerprint,
    )


def gallery_of_folder(folder: str | Path, side: int) -> Gallery:
    """All pictures below a folder, in the order of their paths, such as ImageNet's.

    Each is scaled (bilinear, as prepared images are) and cut at its centre to a square.

    Args:
        folder: where they lie, in folders of any depth.
        side: pixels of the stimuli's side.

    Raises:
        MissingFileError: there is no such folder, or no picture in it.
        InputError: a file is no picture by its beginning.
    """
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not files:
        raise MissingFileError(
            f"{folder}: no picture below it; expected files ending in "
            f"{', '.join(sorted(_SUFFIXES))}."
        )
    for file in files:  # now, and not hours later at its turn
        require_picture(file, "a picture of the gallery")

    def read(rows: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b y x c"]:
        bilinear = PIL.Image.Resampling.BILINEAR
        found = []
        for row in rows:
            picture = PIL.Image.fromarray(read_rgb(files[row]))
            square = PIL.ImageOps.fit(picture, (side, side), bilinear)
            found.append(np.asarray(square))
        return np.stack(found)

    keys = tuple(file.relative_to(folder).as_posix() for file in files)
    sizes = [file.stat().st_size for file in files]
    return Gallery(str(folder), keys, read, fingerprint=of_values([keys, sizes]))


@dataclasses.dataclass(frozen=True)
class Retrieved:
    """What was found for each response.

    Attributes:
        rows: of the gallery.
        scores: correlation of the predicted with the measured response.
    """

    rows: Int[np.ndarray, " b"]
    scores: Float[np.ndarray, " b"]


def retrieve(
    encoder: BrainEncoder,
    gallery: Gallery,
    fmri: Float[np.ndarray, "b n"],
    stimuli: UInt8[np.ndarray, "b y x c"],
    stimulus_ids: Int[np.ndarray, " b"],
    regions: Parcellation,
    *,
    chunk: int = 256,
    state: str | Path | None = None,
    progress: bool = True,
) -> Retrieved:
    """For each response, the image of a gallery whose predicted response correlates best.

    ::

        argmax_g r(encoder(g), fmri)

    with Pearson's r over the vertices that `BrainEncoder.rank` uses. The first of equals, whatever
    the chunks; an image whose prediction is constant is never chosen. Memory is that of one chunk,
    whatever the gallery's size. The paper takes ImageNet's training images as gallery and the
    vertices of labelled ROIs; here they are those of the model's regions.

    Args:
        encoder: of the same subject and surface, trained without the stimuli.
        gallery: what is chosen from.
        fmri: measured responses of the whole cortex.
        stimuli: what the responses are to; used to make sure that they are not in the gallery.
        stimulus_ids: their 0-based 73k ids.
        regions: whose vertices count.
        chunk: images predicted and compared at once.
        state: file from which a killed call goes on.
        progress: show a bar.

    Raises:
        InputError: a stimulus is in the gallery (by id among prepared records, else by its
            pixels), responses that are not finite, a state of another call, or an encoder of
            another mesh or parcellation.
    """
    if gallery.image_ids is not None:
        _refuse(gallery, np.flatnonzero(np.isin(gallery.image_ids, stimulus_ids)))
    mask = encoder.ranked_vertices(regions)
    measured = np.asarray(fmri, np.float32)[:, mask]
    if not np.isfinite(measured).all():
        raise InputError("The measured responses have NaN or infinite values; replace them by 0.")
    state = None if state is None else Path(state)
    of = _fingerprint(encoder, gallery, measured)
    first, leaders = 0, Leaders.of_none(len(fmri))
    if state is not None and state.is_file():
        expected = "the state of a retrieval"
        file = read_npz(state, expected, {"of": "U0"}, f"delete {state}")
        if str(file["of"]) != of or "responses" not in file:
            raise InputError(
                f"{state} belongs to another gallery, encoder or responses, or to an older "
                "version; delete it."
            )
        with reading(state, expected, f"delete {state}"):
            first = int(file["first"])
            leaders = Leaders(file["responses"], file["rows"], file["scores"])
    alone = nullcontext() if state is None else only_run(state.parent, "a retrieval")
    bar = Bar(
        total=len(gallery), initial=first, desc="Retrieval", unit="image", disable=not progress
    )
    with alone, bar:
        while first < len(gallery):
            part = np.arange(first, min(first + chunk, len(gallery)))
            images = gallery.read(part)
            if gallery.image_ids is None:
                _refuse(gallery, part[same_pictures(images, stimuli)])
            scores = np.array(pairwise_correlation(measured, encoder.predict(images)[:, mask]))
            leaders = leaders.with_images(part, scores)
            first += len(part)
            if state is not None:
                write_npz(state, of=of, first=first, **dataclasses.asdict(leaders))
            bar.update(len(part))
    return leaders.chosen()


@dataclasses.dataclass(frozen=True)
class Leaders:
    """What a gallery read so far may still answer with, so that its chunks make no difference.

    The answer is the first image within `ROUNDING` of the best of all, and the best is known only
    at the end. An image that an earlier one equals or surpasses is never the answer; of the others
    those within `ROUNDING` of the best so far are kept, one or a few for each response.

    Attributes:
        responses: which response each is for, ascending.
        rows: of the gallery, ascending for each response.
        scores: correlation of the predicted with the measured response.
    """

    responses: Int[np.ndarray, " k"]
    rows: Int[np.ndarray, " k"]
    scores: Float[np.ndarray, " k"]

    @classmethod
    def of_none(cls, count: int) -> "Leaders":
        """Before any image: row 0 at minus infinity for each of `count` responses."""
        return cls(np.arange(count), np.zeros(count, np.int64), np.full(count, -np.inf, np.float32))

    def chosen(self) -> Retrieved:
        """The answer for each response, once the whole gallery was read."""
        # Leaders stand in the gallery's order, so the first of each response is the one to take.
        _, first = np.unique(self.responses, return_index=True)
        return Retrieved(self.rows[first], self.scores[first])

    def with_images(
        self, rows: Int[np.ndarray, " j"], scores: Float[np.ndarray, "b j"]
    ) -> "Leaders":
        """The leaders after some more images of the gallery; NaN is no score."""
        scores = np.where(np.isnan(scores), np.float32(-np.inf), scores)
        best = np.full(len(scores), -np.inf, np.float32)
        np.maximum.at(best, self.responses, self.scores)
        before = np.maximum.accumulate(np.concatenate([best[:, None], scores], axis=1), axis=1)
        responses, places = np.nonzero(scores > before[:, :-1])
        responses = np.concatenate([self.responses, responses])
        rows = np.concatenate([self.rows, rows[places]])
        scores = np.concatenate([self.scores, scores[responses[len(self.rows) :], places]])
        near = scores >= before[responses, -1] - np.float32(ROUNDING)
        order = np.argsort(responses[near], kind="stable")
        return Leaders(*(x[near][order] for x in (responses, rows, scores)))


def refuse_stimuli(
    gallery: Gallery,
    stimuli: UInt8[np.ndarray, "b y x c"],
    stimulus_ids: Int[np.ndarray, " b"],
    chunk: int = 256,
) -> None:
    """Refuse a gallery that holds a stimulus: by id among prepared records, else by its pixels.

    Args:
        gallery: the reference set.
        stimuli: what is to be decoded.
        stimulus_ids: their 0-based 73k ids.
        chunk: images read at once.

    Raises:
        InputError: a stimulus is in the gallery.
    """
    if gallery.image_ids is not None:
        _refuse(gallery, np.flatnonzero(np.isin(gallery.image_ids, stimulus_ids)))
        return
    for first in range(0, len(gallery), chunk):
        part = np.arange(first, min(first + chunk, len(gallery)))
        _refuse(gallery, part[same_pictures(gallery.read(part), stimuli)])


def same_pictures(
    images: UInt8[np.ndarray, "k y x c"], stimuli: UInt8[np.ndarray, "b y x c"]
) -> Int[np.ndarray, " _j"]:
    """Which images show a stimulus: they differ by at most 2 grey levels on average.

    Compressing or rescaling a picture changes it by less.

    Args:
        images: 0..255, of one size.
        stimuli: 0..255, of the same size.

    Returns:
        Indices of the images that show one of the stimuli.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.decoders.retrieval import same_pictures
        >>> stimuli = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
        >>> images = np.stack([255 - stimuli[0], stimuli[1]])
        >>> [int(index) for index in same_pictures(images, stimuli)]
        [1]
    """
    small, small_stimuli = _thumbnails(images), _thumbnails(stimuli)
    same = []
    for row, thumbnail in enumerate(small):
        # The mean difference of thumbnails is never above that of the pictures.
        near = np.abs(small_stimuli - thumbnail).mean(axis=1) <= _SAME_PICTURE
        difference = np.abs(stimuli[near].astype(np.int16) - images[row].astype(np.int16))
        if (difference.mean(axis=(1, 2, 3)) <= _SAME_PICTURE).any():
            same.append(row)
    return np.array(same, np.int64)


def _thumbnails(images: UInt8[np.ndarray, "k y x c"]) -> Float[np.ndarray, "k f"]:
    """Means over blocks of rows and columns that divide the picture evenly."""
    count, height, width, _ = images.shape
    rows, columns = np.gcd(height, _THUMBNAIL), np.gcd(width, _THUMBNAIL)
    blocks = images.reshape(count, rows, height // rows, columns, width // columns, -1)
    return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(count, -1)


def _refuse(gallery: Gallery, rows: Int[np.ndarray, " j"]) -> None:
    if len(rows):
        raise InputError(
            f"The reference set {gallery.name} holds {len(rows)} of the images to decode, such as "
            f"{gallery.keys[rows[0]]}; take them out, or the stimuli themselves would be found."
        )


def _fingerprint(
    encoder: BrainEncoder, gallery: Gallery, measured: Float[np.ndarray, "b n"]
) -> str:
    digest = hashlib.sha256("\n".join(gallery.keys).encode())
    digest.update(f"{gallery.fingerprint} {encoder.fingerprint}".encode())
    for array in (encoder.correlations, measured):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
