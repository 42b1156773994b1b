"""A file of MOSAIC with few trials, written by its own recipe and not by the reader's helpers."""

import dataclasses
from pathlib import Path

import h5py
import nibabel
import numpy as np
import PIL.Image

GRAYORDINATES, VERTICES = 91_282, 32_492
LEFT, RIGHT = 29_696, 29_716
NAME = "sub-03_BOLD5000"
# Stimulus, phase, number of repeats; in the order that they are written.
STIMULI = [
    ("n02948072_4353.JPEG", "test", 2),
    ("000000000625.jpg", "test", 3),
    ("concert5.jpg", "train", 1),
    ("000000042861.jpg", "train", 1),
    ("n02219486_30442.JPEG", "train", 1),
    ("savanna4.jpg", "train", 1),
    ("doctor1.jpg", "train", 1),
]


@dataclasses.dataclass
class Tree:
    """Truth: the vertices of the cortex per hemisphere, the values of each trial, the SNR."""

    root: Path
    left: np.ndarray
    right: np.ndarray
    betas: dict[tuple[str, int], np.ndarray]
    ncsnr: np.ndarray

    @property
    def file(self):
        return self.root / f"{NAME}.hdf5"

    @property
    def cortex(self):
        return cortex_in(self.root)

    def on_surface(self, values):
        """[64984] of one trial: left, then right hemisphere, 0 in the medial wall."""
        surface = np.zeros(2 * VERTICES, np.float32)
        surface[self.left] = values[:LEFT]
        surface[VERTICES + self.right] = values[LEFT : LEFT + RIGHT]
        return surface

    def write(self, subject="sub-03"):
        with h5py.File(self.file, "w") as file:
            file.attrs["subjectID"] = subject
            file.attrs["dataset_name"] = "BOLD5000"
            ceilings = file.create_group("noiseceilings", track_order=True)
            share = 100 * self.ncsnr**2 / (self.ncsnr**2 + 1)
            for n, values in (("1", share), ("avg", share / 2)):
                ceilings[f"{NAME}_phase-test_n-{n}_noiseceiling"] = values
            group = file.create_group("betas", track_order=True)
            for stimulus, phase, repeats in STIMULI:
                for repeat in range(repeats):
                    values = self.betas[stimulus, repeat]
                    key = f"{NAME}_stimulus-{Path(stimulus).stem}_phase-{phase}_rep-{repeat}"
                    group[key] = values
                    broken = np.flatnonzero(~np.isfinite(values))
                    group[key].attrs["nan_indices"] = broken
                    group[key].attrs["phase"] = phase
                    group[key].attrs["repetition"] = repeat
                    group[key].attrs["presented_stimulus_filename"] = stimulus

    def write_images(self, names=None):
        rng = np.random.default_rng(5)
        for name in names or [name for name, _, _ in STIMULI]:
            # As BOLD5000's own archive names them.
            prefix = "COCO_train2014_" if name[0] == "0" else ""
            path = self.root / "Presented_Stimuli" / "any" / f"{prefix}{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(rng.integers(0, 256, (19, 19, 3), np.uint8)).save(path, "JPEG")
        return self.root / "Presented_Stimuli"


def cortex_in(folder):
    names = (f"tpl-fsLR_den-32k_hemi-{h}_desc-nomedialwall_dparc.label.gii" for h in "LR")
    return tuple(str(folder / name) for name in names)


def write_labels(path, mask, structure):
    array = nibabel.gifti.GiftiDataArray(mask.astype(np.int32), intent="NIFTI_INTENT_LABEL")
    meta = nibabel.gifti.GiftiMetaData(AnatomicalStructurePrimary=structure)
    nibabel.save(nibabel.gifti.GiftiImage(darrays=[array], meta=meta), path)


def make_tree(root):
    """The file and the two label files."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(13)
    left = np.sort(rng.permutation(VERTICES)[:LEFT])
    right = np.sort(rng.permutation(VERTICES)[:RIGHT])
    betas = {
        (name, repeat): rng.normal(0, 1, GRAYORDINATES).astype(np.float32)
        for name, _, repeats in STIMULI
        for repeat in range(repeats)
    }
    for name in ("000000000625.jpg", "concert5.jpg"):
        betas[name, 0][[7, LEFT + 3, GRAYORDINATES - 1]] = np.nan
    ncsnr = rng.uniform(0, 1, GRAYORDINATES)
    tree = Tree(root, left, right, betas, ncsnr)
    for path, own, structure in zip(
        tree.cortex, (left, right), ("CortexLeft", "CortexRight"), strict=True
    ):
        mask = np.zeros(VERTICES, bool)
        mask[own] = True
        write_labels(path, mask, structure)
    tree.write()
    return tree
