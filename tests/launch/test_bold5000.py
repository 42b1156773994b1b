"""BOLD5000 from its files to reconstructions, by the commands that the documentation names."""

import json

import numpy as np
import pytest
from bold5000_tree import REPEATED, make_tree
from wrong_commands.world import write_backbone

from neuroadapter_jax.commands import program
from neuroadapter_jax.datasets.prepared.records import PreparedDataset

pytest.importorskip("tensorflow")

TRAINING = (
    "batch_size=2", "num_steps=2", "log_every=1", "evaluate_every=2", "checkpoint_every=2",
    "sample_steps=1", "precision=fp32", "num_candidates=1",
)  # fmt: skip


def options(root, out):
    return [
        "--config=bold5000",
        f"--config.data.reader.root={root}",
        "--config.data.reader.subject=2",
        "--config.data.reader.num_validation=5",
        f"--config.data.prepared={out / 'prepared'}",
        f"--config.backbone={out / 'backbone'}",
        "--config.data.image_size=64",
        "--config.progress=False",
    ]


def test_the_dry_run_says_what_to_fetch_until_all_is_there(tmp_path, capsys):
    tree = make_tree(tmp_path / "bold5000")
    given = ["prepare", *options(tree.root, tmp_path), "--dry-run"]
    program.main(given)
    assert "All 46 files that bold5000 needs are there." in capsys.readouterr().out
    tree.array("LHLOC").unlink()
    with pytest.raises(SystemExit) as end:
        program.main(given)
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert "BOLD5000_GLMsingle_ROI_betas.zip" in said and "14456124" in said
    assert not (tmp_path / "prepared").exists()


@pytest.mark.slow
def test_from_the_files_to_reconstructions(tmp_path):
    tree = make_tree(tmp_path / "bold5000")
    write_backbone(tmp_path / "backbone")
    run, model, out = (tmp_path / name for name in ("train", "model", "reconstructions"))
    program.main(
        ["train", *options(tree.root, tmp_path), f"--workdir={run}"]
        + [f"--config.train.{setting}" for setting in TRAINING]
    )
    test = PreparedDataset(tmp_path / "prepared", "test")
    stems = [name.rsplit(".", 1)[0] for name in REPEATED]
    assert sorted(test.names) == sorted(stems)
    repeats = {name: test[i]["betas"].shape[0] for i, name in enumerate(test.names)}
    assert repeats == dict(zip(stems, (4, 4, 3), strict=True))
    program.main(["export", "--run", str(run), "--out", str(model)])
    given = {"model": model, "prepared": tmp_path / "prepared", "out": out, "num_steps": 1}
    program.main(["reconstruct", *(f"--{flag}={value}" for flag, value in given.items())])
    index = json.loads((out / "index.json").read_text())
    assert len(list((out / "images").iterdir())) == len(np.unique(REPEATED))
    assert sorted(row["name"] for row in index["images"]) == sorted(stems)
