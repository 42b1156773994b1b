"""BOLD5000's files at a small number of voxels and trials, written without the reader's helpers."""

import dataclasses
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image

SUBJECT, NAME = 2, "CSI2"
TRIALS = 5  # of a run
RUNS = {1: 2, 2: 3, 3: 2}  # session -> its runs
VERSION = "TYPED-FITHRF-GLMDENOISE-RR"
GRID = (5, 7, 3)
REGIONS = ["LHEarlyVis", "RHEarlyVis", "LHLOC", "RHLOC", "LHOPA", "RHOPA"]
REGIONS += ["LHPPA", "RHPPA", "LHRSC", "RHRSC"]
VOXELS = dict(zip(REGIONS, (7, 5, 3, 5, 2, 3, 3, 2, 2, 3), strict=True))
# As two of the subjects' files spell them.
SPELLED = {"LHLOC": "LHLO", "RHLOC": "RHLO", "RHRSC": "RHRRSC"}
REPEATED = ["COCO_train2014_000000000625.jpg", "n02948072_4353.JPEG", "coralreef3.jpg"]
FOLDERS = {"C": "COCO", "n": "ImageNet", "c": "Scene"}


@dataclasses.dataclass
class Tree:
    """Truth: betas [trial, voxel of the regions in turn], the name of the image of each trial."""

    root: Path
    betas: np.ndarray
    shown: list[str]
    once: list[str]
    rows: dict[int, slice]  # of a session

    @property
    def stimuli(self):
        return self.root / "BOLD5000_Stimuli"

    @property
    def arrays(self):
        return self.root / "BOLD5000_GLMsingle_ROI_betas" / "py"

    def columns(self, region):
        start = sum(VOXELS[name] for name in REGIONS[: REGIONS.index(region)])
        return slice(start, start + VOXELS[region])

    def array(self, region):
        name = f"{NAME}_GLMbetas-{VERSION}_allses_{SPELLED.get(region, region)}.npy"
        return self.arrays / name

    def write_arrays(self):
        self.arrays.mkdir(parents=True, exist_ok=True)
        for region in REGIONS:
            np.save(self.array(region), self.betas[:, self.columns(region)])

    def run(self, session, run):
        folder = self.stimuli / "Stimuli_Presentation_Lists" / NAME / f"{NAME}_sess{session:02d}"
        return folder / f"CSI_sess{session:02d}_run{run:02d}.txt"

    def write_lists(self):
        trial = 0
        for session, runs in RUNS.items():
            for run in range(1, runs + 1):
                names = self.shown[trial : trial + TRIALS]
                names = [f"rep_{name}" if name in REPEATED else name for name in names]
                self.run(session, run).parent.mkdir(parents=True, exist_ok=True)
                self.run(session, run).write_text("\n".join(names) + "\n")
                self.run(session, run).with_suffix(".mat").write_bytes(b"not read")
                trial += TRIALS
        place = self.stimuli / "Scene_Stimuli" / "repeated_stimuli_113_list.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("\n".join([*REPEATED, "neverseen1.jpg"]) + "\n")
        (self.root / f"{NAME}_imgnames.txt").write_text("\n".join(self.shown) + "\n")

    def image(self, name):
        folder = self.stimuli / "Scene_Stimuli" / "Presented_Stimuli" / FOLDERS[name[0]]
        return folder / name

    def write_images(self):
        rng = np.random.default_rng(5)
        for name in [*self.once, *REPEATED, "n00000000_1.JPEG"]:  # one that was not shown
            picture = PIL.Image.fromarray(rng.integers(0, 256, (19, 19, 3), np.uint8))
            self.image(name).parent.mkdir(parents=True, exist_ok=True)
            picture.save(self.image(name), "JPEG", quality=95)
        original = self.stimuli / "Scene_Stimuli" / "Original_Images"
        original.mkdir()
        (original / REPEATED[2]).write_bytes(b"another picture of this name")

    def volume(self, session):
        return self.root / f"{NAME}_GLMbetas-{VERSION}_ses-{session:02d}.nii.gz"

    def mask(self, region):
        name = f"sub-{NAME}_mask-{SPELLED.get(region, region)}.nii.gz"
        return self.root / f"sub-{NAME}" / name

    def write_volumes(self):
        places = np.random.default_rng(7).permutation(np.prod(GRID))
        (self.root / f"sub-{NAME}").mkdir()
        volume = np.full((*GRID, len(self.betas)), np.nan, np.float32)  # outside the brain
        for region in REGIONS:
            columns = self.columns(region)
            # Voxels of a mask in the order of a volume whose first axis runs fastest.
            own = np.sort(places[columns])
            at = np.unravel_index(own, GRID, order="F")
            mask = np.zeros(GRID, np.uint8)
            mask[at] = 1
            nibabel.save(nibabel.Nifti1Image(mask, np.diag([2, 2, 2, 1])), self.mask(region))
            volume[at] = self.betas[:, columns].T
        for session, rows in self.rows.items():
            image = nibabel.Nifti1Image(volume[..., rows], np.eye(4))
            nibabel.save(image, self.volume(session))


def make_tree(root):
    """Everything but the volumes."""
    rng = np.random.default_rng(11)
    trials = TRIALS * sum(RUNS.values())
    repeats = [REPEATED[0]] * 4 + [REPEATED[1]] * 4 + [REPEATED[2]] * 3
    once = [
        *(f"COCO_train2014_{i:012d}.jpg" for i in range(8)),
        *(f"n{i:08d}_{100 + i}.JPEG" for i in range(3, 11)),
        *(f"concert{i}.jpg" for i in range(8)),
    ]
    shown = [str(name) for name in rng.permutation(repeats + once)]
    assert len(shown) == trials
    pattern = {name: rng.normal(0, 1, sum(VOXELS.values())) for name in shown}
    betas = np.stack([pattern[name] for name in shown]) + rng.normal(0, 1, (trials, 35))
    rows, start = {}, 0
    for session, runs in RUNS.items():
        rows[session] = slice(start, start + TRIALS * runs)
        betas[rows[session]] = 3 * betas[rows[session]] + session  # sessions drift
        start += TRIALS * runs
    tree = Tree(root, betas.astype(np.float32), shown, once, rows)
    tree.write_arrays()
    tree.write_lists()
    tree.write_images()
    return tree
