"""A tiny NSD tree, written without the reader's helpers, and its truth."""

import dataclasses
from pathlib import Path

import h5py
import nibabel
import numpy as np
import scipy.io

SUBJECT = 2
SPACE = "fsaverage3"
VERSION = "betas_assumehrf"
LH, RH = 13, 17
TRIALS = 11
FIRST_RUN = 6  # trials; the second run has the other 5
SESSIONS = 3
PLANNED = 42
SIDE = 19
HELD = 47


@dataclasses.dataclass
class Tree:
    """Truth in 0-based 73k ids; betas [session, trial, vertex] in percent signal change."""

    root: Path
    betas: np.ndarray
    ncsnr: np.ndarray
    order: np.ndarray
    image_of: np.ndarray
    shared: np.ndarray
    images: np.ndarray

    @property
    def shown(self):
        return self.image_of[self.order[: SESSIONS * TRIALS]]

    @property
    def folder(self):
        return self.root / f"nsddata_betas/ppdata/subj{SUBJECT:02d}/{SPACE}/{VERSION}"

    @property
    def design(self):
        return self.root / "nsddata/experiments/nsd/nsd_expdesign.mat"

    @property
    def table(self):
        return self.root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv"

    @property
    def responses(self):
        return self.root / f"nsddata/ppdata/subj{SUBJECT:02d}/behav/responses.tsv"

    @property
    def stimuli(self):
        return self.root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"

    def arguments(self):
        return {"root": self.root, "subject": SUBJECT, "space": SPACE, "beta_version": VERSION}

    def session_file(self, hemisphere, session):
        return self.folder / f"{hemisphere}.betas_session{session:02d}.mgh"

    def write_session(self, hemisphere, session):
        vertices = slice(None, LH) if hemisphere == "lh" else slice(LH, None)
        values = self.betas[session - 1][:, vertices].T[:, None, None, :]
        write_mgh(self.session_file(hemisphere, session), values)

    def write_images(self, count=HELD):
        self.stimuli.unlink(missing_ok=True)
        with h5py.File(self.stimuli, "w") as file:
            file["imgBrick"] = self.images[:count]

    def write_responses(self, ids=None):
        lines = ["SUBJECT\tSESSION\tRUN\tTRIAL\t73KID\t10KID\tRT"]
        for trial, image in enumerate(self.shown if ids is None else ids):
            session, within = divmod(trial, TRIALS)
            run, ten_k = 1 + (within >= FIRST_RUN), self.order[trial] + 1
            values = (SUBJECT, session + 1, run, within + 1, image + 1, ten_k, "NaN")
            lines.append("\t".join(map(str, values)))
        self.responses.write_text("\n".join(lines) + "\n")

    def write_table(self, order=None):
        order = self.order if order is None else order
        lines = [",cocoId,nsdId,shared1000,subject2,subject2_rep0,subject2_rep1,subject2_rep2"]
        for image in range(HELD):
            trials = [t + 1 for t in range(PLANNED) if self.image_of[order[t]] == image]
            repeats = [*trials, 0, 0, 0][:3]
            fields = [image, 1000 + image, image, image in self.shared, int(bool(trials)), *repeats]
            lines.append(",".join(map(str, fields)))
        self.table.write_text("\n".join(lines) + "\n")


def write_mgh(path, values):
    nibabel.save(nibabel.MGHImage(values.astype(">f4"), np.eye(4)), path)


def make_tree(root):
    rng = np.random.default_rng(5)
    order = rng.permutation(np.repeat(np.arange(14), 3))
    others = rng.permutation(HELD)[:14]
    image_of = np.concatenate([others[:5], np.setdiff1d(np.arange(HELD), others)[:9]])
    tree = Tree(
        root=root,
        betas=rng.normal(1.3, 2.9, (SESSIONS, TRIALS, LH + RH)).astype(np.float32),
        ncsnr=rng.uniform(0, 1, LH + RH).astype(np.float32),
        order=order,
        image_of=image_of,
        shared=np.sort(image_of[:5]),
        images=rng.integers(0, 256, (HELD, SIDE, SIDE, 3), np.uint8),
    )
    for path in (tree.folder, tree.design.parent, tree.responses.parent, tree.stimuli.parent):
        path.mkdir(parents=True, exist_ok=True)
    for session in range(1, SESSIONS + 1):
        for hemisphere in ("lh", "rh"):
            tree.write_session(hemisphere, session)
    write_mgh(tree.folder / "lh.ncsnr.mgh", tree.ncsnr[:LH, None, None])
    write_mgh(tree.folder / "rh.ncsnr.mgh", tree.ncsnr[LH:, None, None])
    design = {
        "masterordering": order[None] + 1.0,
        "subjectim": np.stack([others, image_of]) + 1.0,
        "sharedix": tree.shared[None] + 1.0,
    }
    scipy.io.savemat(tree.design, design)
    tree.write_responses()
    tree.write_table()
    tree.write_images()
    return tree
