"""NSD-Imagery's files at a small number of vertices, written without the reader's helpers."""

import dataclasses
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image

LH, RH = 13, 17
SUBJECT, SPACE = 5, "fsaverage3"
FOLDER = f"nsddata_betas/ppdata/subj05/{SPACE}"
# Columns of each run as published (0-based, end exclusive), written out so that no sum is shared.
COLUMNS = {
    "visA": (0, 48),
    "imgA_1": (144, 192),
    "visB": (192, 240),
    "imgB_1": (336, 384),
    "visC": (384, 432),
    "imgC_1": (528, 576),
    "imgA_2": (576, 624),
    "imgB_2": (624, 672),
    "imgC_2": (672, 720),
}
ATTENTION = [*range(48, 144), *range(240, 336), *range(432, 528)]
LETTERS = {"A": "HRVLPE", "B": "WKBCDT", "C": "SZMYNF"}
FILES = {
    "H": "setA/bar_000.0deg_450L_43W.png",
    "R": "setA/bar_045.0deg_450L_43W.png",
    "V": "setA/bar_090.0deg_450L_43W.png",
    "L": "setA/bar_135.0deg_450L_43W.png",
    "P": "setA/crs_000.0deg_450L_43W.png",
    "E": "setA/crs_045.0deg_450L_43W.png",
    "W": "setB/shared0385_nsd28752.png",
    "K": "setB/shared0413_nsd30857.png",
    "B": "setB/shared0741_nsd53882.png",
    "C": "setB/shared0842_nsd61178.png",
    "D": "setB/shared0907_nsd65873.png",
    "T": "setB/shared0000_nsd00000.png",
}


@dataclasses.dataclass
class Tree:
    """Truth: betas [vertex, column]; the conditions of each run in the order of its trials."""

    root: Path
    betas: np.ndarray
    ncsnr: np.ndarray
    conditions: dict[str, list[str]]
    pictures: dict[str, np.ndarray]

    def write_betas(self, columns=720):
        folder = self.root / FOLDER / "nsdimagerybetas_fithrf_GLMdenoise_RR"
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in (("lh", self.betas[:LH]), ("rh", self.betas[LH:])):
            write_mgh(folder / f"{name}.betas_nsdimagery.mgh", values[:, None, None, :columns])

    def table(self, run):
        return self.root / f"nsddata/bdata/nsdimagery/nsdimagery_subj05_{run}.tsv"

    def write_table(self, run, first_trial=1):
        letters = LETTERS[run[3]]
        lines = ["SUBJECT\tSESSION\tRUN\tTRIAL\tCONDITION\tCUE\tFRAMEFILE\tISCORRECT\tRT"]
        for k, condition in enumerate(self.conditions[run]):
            # In half of the trials the cue names another target than the one that is shown.
            cue = condition if k % 2 else letters[(letters.index(condition) + 1) % 6]
            lines.append(f"5\t1\t3\t{k + first_trial}\t{condition}\t{cue}\tx_cue{cue}.png\t\t612.5")
        self.table(run).write_text("\n".join(lines) + "\n")

    def trials(self, kind, sets):
        """(condition, column) of every trial of a kind of run, in the order of acquisition."""
        return [
            (condition, COLUMNS[run][0] + k)
            for run in COLUMNS
            if run.startswith(kind) and run[3] in sets
            for k, condition in enumerate(self.conditions[run])
        ]


def write_mgh(path, values):
    nibabel.save(nibabel.MGHImage(np.asfortranarray(values.astype(">f4")), np.eye(4)), path)


def make_tree(root):
    rng = np.random.default_rng(11)
    betas = rng.normal(0.7, 2.3, (LH + RH, 720)).astype(np.float32)
    betas[:, ATTENTION] = 1e6  # poison: nothing of these may be found anywhere
    conditions = {
        run: [str(c) for c in rng.permutation(np.repeat(list(LETTERS[run[3]]), 8))]
        for run in COLUMNS
    }
    pictures = {
        letter: rng.integers(0, 256, (19 + i, 23, 3), np.uint8) for i, letter in enumerate(FILES)
    }
    tree = Tree(root, betas, rng.uniform(0, 1, LH + RH).astype(np.float32), conditions, pictures)
    tree.write_betas()
    (root / FOLDER / "betas_fithrf_GLMdenoise_RR").mkdir()
    for name, part in (("lh", slice(None, LH)), ("rh", slice(LH, None))):
        path = root / FOLDER / "betas_fithrf_GLMdenoise_RR" / f"{name}.ncsnr.mgh"
        write_mgh(path, tree.ncsnr[part][:, None, None])
    tree.table("visA").parent.mkdir(parents=True)
    for run in COLUMNS:
        tree.write_table(run)
    targets = root / "nsddata/experiments/nsdimagery/rawtargetimages"
    for letter, file in FILES.items():
        (targets / file).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pictures[letter]).save(targets / file)
    return tree
