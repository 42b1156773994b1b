"""An NSD tree with the published design's numbers, made without the reader's helpers.

Which image is shown when is random, but chosen so that every published count comes out: images
shown once, twice, three times within 30, 32 and 40 sessions, shared ones among them, and the 982
shared and 9,841 images of 37 sessions.
"""

import dataclasses
import struct
from pathlib import Path

import h5py
import nibabel
import numpy as np
import scipy.io

FIRST_IMAGES = (46002, 61882, 828, 67573, 16020, 40422, 51517, 62325, 50610, 55065)
FSAVERAGE = 163_842
TRIALS = 750
BETAS = "nsddata_betas/ppdata/subj01/fsaverage/betas_fithrf_GLMdenoise_RR"


@dataclasses.dataclass
class PublishedDesign:
    """Ids from 0: 10k id of each trial; 73k id of each subject's 10k ids; the shared ones."""

    order: np.ndarray
    image_of: np.ndarray
    shared: np.ndarray


def make_design(seed=0):
    rng = np.random.default_rng(seed)
    is_shared = np.arange(10_000) < 1_000
    shown = np.zeros(10_000, int)
    order = []

    def show(count, times, only):
        """Shows, once more, so many images of a kind that were shown so often."""
        chosen = rng.permutation(np.flatnonzero((shown == times) & only))[:count]
        assert len(chosen) == count
        shown[chosen] += 1
        return chosen

    # 30 sessions: (shared, other) images shown at least once, twice, three times.
    stage = [
        show(count, times, only)
        for times, counts in enumerate([(907, 8302), (766, 7080), (515, 4930)])
        for count, only in zip(counts, (is_shared, ~is_shared), strict=True)
    ]
    order.append(rng.permutation(np.concatenate(stage)))
    # 32 sessions: 9,411 images (930 shared), 8,355 twice, 6,234 three times.
    anything = np.ones(10_000, bool)
    stage = [show(789, 2, anything), show(509, 1, anything)]
    stage += [show(23, 0, is_shared), show(179, 0, ~is_shared)]
    order.append(rng.permutation(np.concatenate(stage)))
    # 37 sessions: 9,841 images, 982 of them shared.
    stage = [show(1056, 1, anything), show(2264, 2, anything)]
    stage += [show(52, 0, is_shared), show(378, 0, ~is_shared)]
    order.append(rng.permutation(np.concatenate(stage)))
    order.append(rng.permutation(np.repeat(np.arange(10_000), 3 - shown)))
    order = np.concatenate(order)
    assert len(order) == 30_000

    # The first ten trials show ten different images that are not shared.
    rest = np.flatnonzero(~np.isin(order, order[:10]) & (order >= 1_000))
    for trial in range(10):
        if order[trial] < 1_000 or order[trial] in order[:trial]:
            other = next(t for t in rest if 10 <= t < 22_500 and order[t] not in order[:10])
            order[[trial, other]] = order[[other, trial]]
    ids = np.setdiff1d(np.arange(73_000), FIRST_IMAGES)
    inside = ids[(ids > 2_950) & (ids < 72_948)]
    shared = np.sort(np.concatenate([[2_950, 72_948], rng.permutation(inside)[:998]]))
    others = rng.permutation(np.setdiff1d(ids, shared))
    image_of = np.empty((8, 10_000), int)
    image_of[:, :1_000] = shared
    known = np.setdiff1d(np.arange(1_000, 10_000), order[:10])
    image_of[0, order[:10]] = FIRST_IMAGES
    image_of[0, known] = others[:8_990]
    image_of[1:, 1_000:] = others[8_990:].reshape(7, 9_000)
    return PublishedDesign(order, image_of, shared)


def write_mgh_header(file, vertices, trials):
    """The 284 bytes before the data: version, dimensions, type float, no orientation."""
    header = struct.pack(">7ih", 1, vertices, 1, 1, trials, 3, 0, 0)
    file.write(header.ljust(284, b"\0"))


def write_tree(root, design, vertices=(FSAVERAGE, FSAVERAGE), sessions=range(1, 41), median=0.49):
    """Everything but the values of betas and images, whose files are sparse."""
    root = Path(root)
    for folder in (
        f"{BETAS}",
        "nsddata/experiments/nsd",
        "nsddata/ppdata/subj01/behav",
        "nsddata_stimuli/stimuli/nsd",
        "nsddata/freesurfer/fsaverage/label",
    ):
        (root / folder).mkdir(parents=True)
    scipy.io.savemat(
        root / "nsddata/experiments/nsd/nsd_expdesign.mat",
        {
            "masterordering": design.order[None] + 1.0,
            "subjectim": design.image_of + 1.0,
            "sharedix": design.shared[None] + 1.0,
        },
    )
    shown = design.image_of[0][design.order]
    lines = ["SUBJECT\tSESSION\tRUN\tTRIAL\t73KID\t10KID"]
    runs = np.repeat(np.arange(1, 13), [63, 62] * 6)
    for trial, image in enumerate(shown.tolist()):
        session, within = divmod(trial, TRIALS)
        row = (1, session + 1, runs[within], within + 1, image + 1, design.order[trial] + 1)
        lines.append("\t".join(map(str, row)))
    (root / "nsddata/ppdata/subj01/behav/responses.tsv").write_text("\n".join(lines) + "\n")
    repeats = {}
    for trial, image in enumerate(shown.tolist()):
        repeats.setdefault(image, []).append(trial + 1)
    shared = set(design.shared.tolist())
    lines = [",nsdId,shared1000,subject1_rep0,subject1_rep1,subject1_rep2"]
    for image in range(73_000):
        trials = ",".join(map(str, repeats.get(image, (0, 0, 0))))
        lines.append(f"{image},{image},{image in shared},{trials}")
    table = root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
    table.write_text("\n".join(lines) + "\n")
    with h5py.File(root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", "w") as file:
        file.create_dataset("imgBrick", (73_000, 425, 425, 3), np.uint8, chunks=(1, 425, 425, 3))
    rng = np.random.default_rng(1)
    for hemisphere, count in zip(("lh", "rh"), vertices, strict=True):
        for session in sessions:
            path = root / BETAS / f"{hemisphere}.betas_session{session:02d}.mgh"
            with path.open("wb") as file:
                write_mgh_header(file, count, TRIALS)
                file.truncate(284 + 4 * count * TRIALS)
        # 18,992 vertices of a hemisphere, half above and half below the median; -1 and 0 outside.
        label = rng.permutation(np.repeat([1, 0, -1], [18_992, 44_850, 100_000]))[:count]
        values = rng.uniform(0, 0.2, count)
        inside = np.flatnonzero(label == 1)
        values[inside] = np.linspace(median - 0.3, median + 0.3, len(inside))
        for path, array in (
            (root / BETAS / f"{hemisphere}.ncsnr.mgh", values.astype(">f4")),
            (
                root / f"nsddata/freesurfer/fsaverage/label/{hemisphere}.nsdgeneral.mgz",
                label.astype(">i4"),
            ),
        ):
            nibabel.save(nibabel.MGHImage(array[:, None, None], np.eye(4)), path)
    return root
