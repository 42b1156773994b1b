r"""Writes an NSD tree at its true size: 163,842 vertices per hemisphere, a few sessions.

    python tests/full_size_nsd.py ROOT [SESSIONS]

then prepares it as a user would; three sessions of 750 trials are 3 GB:

    python launch/prepare.py --config configs/nsd.py --config.data.root=ROOT \
        --config.data.sessions="(1, 2, 3)" --config.data.split=shared \
        --config.data.num_validation=100 --config.backbone=tiny-sd --config.data.image_size=64 \
        --config.data.prepared=PREPARED --compare_disk
"""

import sys
from pathlib import Path

import h5py
import numpy as np
from published_nsd import BETAS, FSAVERAGE, TRIALS, make_design, write_tree


def main(root, sessions):
    design = make_design()
    write_tree(root, design, sessions=range(1, sessions + 1))
    shown = design.image_of[0][design.order[: sessions * TRIALS]]
    rng = np.random.default_rng(2)
    for hemisphere in ("lh", "rh"):
        gain = rng.uniform(0, 1.5, FSAVERAGE).astype(np.float32)
        for session in range(1, sessions + 1):
            path = Path(root) / BETAS / f"{hemisphere}.betas_session{session:02d}.mgh"
            empty = rng.choice(FSAVERAGE, 10, replace=False)
            with path.open("r+b") as file:
                file.seek(284)
                for image in shown[(session - 1) * TRIALS : session * TRIALS]:
                    signal = np.random.default_rng([3, int(image), hemisphere == "lh"])
                    row = gain * signal.standard_normal(FSAVERAGE, np.float32)
                    row += rng.standard_normal(FSAVERAGE, np.float32) + np.float32(session)
                    row[empty] = np.nan
                    file.write(row.astype(">f4").tobytes())
    stimuli = Path(root) / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    with h5py.File(stimuli, "r+") as file:
        for image in np.unique(shown):
            file["imgBrick"][image] = rng.integers(0, 256, (425, 425, 3), np.uint8)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
