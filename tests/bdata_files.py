"""Deeprecon's BData files at a small number of voxels, written by h5py alone."""

import h5py
import numpy as np
import PIL.Image

VOXELS = 23
NAMES = [f"n0{1440764 + 17 * i}_{11 * i + 3}" for i in range(7)]
TEST_NAMES = ["n02071294_46212", "n04252077_10859", "n03272010_11001"]
NAN = np.nan
# Which of the 23 voxels each ROI holds; LOC and FFA share voxel 17.
ROIS = {
    "V1": (0, 5),
    "V2": (5, 8),
    "V3": (8, 12),
    "V4": (12, 14),
    "LOC": (14, 18),
    "FFA": (17, 21),
}
PLAIN = {f"ROI_{name}": range(*span) for name, span in ROIS.items()}
SIDES = {
    "ROI_LH_V1": [3, 0, 9],
    "ROI_RH_V1": [1, 2],
    "ROI_LH_FFA": [22, 4],
    "ROI_RH_FFA": [5, 21, 8, 20],
    "ROI_LH_V2": [],
}


def write_bdata(path, betas, names, *, old=False, masks=PLAIN, run=None, vmap=True, gap=0):
    """A BData file by h5py alone: NaN for "not of this kind", voxels and labels in one table."""
    numbers = {name: float(i + 1) for i, name in enumerate(sorted(set(names)))}
    labels = np.array([[numbers[name]] for name in names])
    key = "stimulus_name" if vmap else "image_index"
    columns = [np.full((len(betas), gap), 7.0), betas, labels]
    rows = {"VoxelData": range(gap, gap + VOXELS), "ROI_VC": range(gap, gap + VOXELS)}
    rows |= {name: [gap + k for k in members] for name, members in masks.items()}
    rows[key] = [gap + VOXELS]
    if run is not None:
        columns.append(np.asarray(run, float)[:, None])
        rows["Run"] = [gap + VOXELS + 1]
    dataset = np.concatenate(columns, axis=1)
    values = np.full((len(rows) + 1, dataset.shape[1]), NAN)
    for i, members in enumerate(rows.values()):
        values[i, list(members)] = 1
    values[-1, gap : gap + VOXELS] = np.linspace(-60, 60, VOXELS)
    with h5py.File(path, "w") as file:
        file["dataSet" if old else "dataset"] = dataset
        table = file.create_group("metaData" if old else "metadata")
        table["key"] = [name.encode() for name in [*rows, "voxel_x"]]
        table["description"] = [b"..."] * (len(rows) + 1)
        table["value"] = values
        if vmap:
            for name, number in numbers.items():
                file[f"vmap/stimulus_name/{number}"] = name.encode()
    return dataset


class World:
    """Seven training images five times each, three test images four times, in folders of files."""

    def __init__(self, root):
        rng = np.random.default_rng(3)
        self.root = root
        root.mkdir()
        self.train_names = [NAMES[i] for i in rng.permutation(np.repeat(np.arange(7), 5))]
        self.test_names = [TEST_NAMES[i] for i in rng.permutation(np.repeat(np.arange(3), 4))]
        pattern = {name: rng.normal(0, 1, VOXELS) for name in NAMES + TEST_NAMES}
        self.train = self.respond(rng, pattern, self.train_names)
        self.test = self.respond(rng, pattern, self.test_names)
        self.runs = np.repeat(np.arange(1, 6), 7)
        self.pictures = {}

    @staticmethod
    def respond(rng, pattern, names):
        noise = rng.normal(0, 1, (len(names), VOXELS))
        return 100 + 3 * (np.stack([pattern[name] for name in names]) + noise)

    def path(self, part, subject=1):
        return self.root / f"sub-{subject:02d}_perceptionNaturalImage{part}_original_VC.h5"

    def write(self, **options):
        write_bdata(self.path("Training"), self.train, self.train_names, run=self.runs, **options)
        write_bdata(self.path("Test"), self.test, self.test_names, **options)
        return self

    def write_images(self, names):
        folder = self.root / "images"
        folder.mkdir(exist_ok=True)
        for i, name in enumerate(names):
            self.pictures[name] = np.full((13 + i, 17, 3), 20 * i, np.uint8)
            (folder / name[:9]).mkdir(exist_ok=True)
            PIL.Image.fromarray(self.pictures[name]).save(folder / name[:9] / f"{name}.png")
        return folder
