"""launch/prepare.py and launch/reconstruct.py on NSD-Imagery and Deeprecon, as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bdata_files import NAMES, World
from flax import nnx
from imagery_tree import LH, RH, make_tree
from PIL import Image

from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.prepare import prepare_records
from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.cortex.packing import make_packing
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.weights import load_pretrained
from neuroadapter_jax.pipeline import (
    NeuroAdapterPipeline,
    load_reconstructions,
    reconstruct_split,
)
from neuroadapter_jax.training.settings import Settings
from neuroadapter_jax.training.setup import TrainingSetup

pytest.importorskip("tensorflow")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def prepare(name, *overrides):
    """What launch/prepare.py prepares of a config with overrides."""
    values = CommandFlags([f"--config={ROOT / 'configs' / name}", *overrides])
    define_config(values)
    values(["prepare", *values.arguments])
    return prepare_records(values.config)


NSD = {
    "dataset": "nsd",
    "subject": 5,
    "space": "fsaverage3",
    "beta_version": "betas_fithrf_GLMdenoise_RR",
    "normalize": "session",
}


def export(backbone, regions, folder, **data):
    """A model of random weights with these regions, as if trained on some data."""
    loaded = load_pretrained(str(backbone))
    packing = make_packing(regions)
    adapter = NeuroAdapter.for_unet(
        loaded.unet, *packing.index.shape, "per_region", None, rngs=nnx.Rngs(0)
    )
    pipeline = NeuroAdapterPipeline(
        adapter, loaded, regions, backbone_name=str(backbone), provenance={"data": data}
    )
    pipeline.save_pretrained(folder)
    return folder


def start(*arguments):
    command = [sys.executable, "launch/reconstruct.py", "--num_steps=1", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def worlds(random_backbone, tmp_path_factory):
    """Both datasets prepared, and reconstructed by models of matching regions."""
    folder = tmp_path_factory.mktemp("other")
    tree = make_tree(folder / "nsd")
    common = (f"--config.backbone={random_backbone}", "--config.data.image_size=64")
    imagery = prepare(
        "nsd_imagery.py", *common,
        f"--config.data.prepared={folder / 'imagery'}",
        f"--config.data.reader.root={tree.root}",
        "--config.data.reader.subject=5",
        "--config.data.reader.space=fsaverage3",
    )  # fmt: skip
    world = World(folder / "deeprecon").write()
    deeprecon = prepare(
        "deeprecon.py", *common,
        f"--config.data.prepared={folder / 'rois'}",
        f"--config.data.reader.root={world.root}",
        f"--config.data.reader.images={world.write_images(NAMES)}",
        "--config.data.reader.rois=('V1','LOC','FFA')",
        "--config.data.reader.num_validation=2",
    )  # fmt: skip
    surface = Parcellation(
        ("a", "b"), ("lh", "rh"), (np.arange(2, 11, dtype=np.int32), np.arange(5, dtype=np.int32)),
        (LH, RH),
    )  # fmt: skip
    rois = PreparedDataset(deeprecon, "test").regions
    models = [
        export(random_backbone, surface, folder / "model", **NSD),
        export(random_backbone, rois, folder / "rois-model"),
    ]
    runs = [
        start("--model", models[0], "--prepared", imagery, "--split", "imagery_concepts",
              "--allow_other", "dataset", "--out", folder / "reconstructed-imagery"),
        start("--model", models[1], "--prepared", deeprecon,
              "--out", folder / "reconstructed-rois"),
    ]  # fmt: skip
    for run in runs:
        finish(run)
    return folder, tree, world


def test_concepts_are_reconstructed_without_a_target(worlds):
    folder = worlds[0]
    reconstructions = folder / "reconstructed-imagery"
    entries = json.loads((reconstructions / "index.json").read_text())["images"]
    assert [e["name"] for e in entries] == [f"C_{c}" for c in "SZMYNF"]
    assert all(e["stimulus"] is None for e in entries)
    assert not (reconstructions / "stimuli").exists()
    settings = json.loads((reconstructions / "index.json").read_text())["settings"]
    assert settings["other_data"] == {"dataset": ["nsd", "nsd_imagery"]}
    third = Image.open(reconstructions / entries[2]["candidates"][0])
    assert np.asarray(third).shape == (64, 64, 3)
    assert (reconstructions / "grid.png").exists()
    found = load_reconstructions(reconstructions, require_targets=False)
    assert not found.has_target.any() and found.candidates.shape == (6, 1, 64, 64, 3)
    with pytest.raises(ValueError, match=r"6 of 6 stimuli have no image, the first being C_S"):
        load_reconstructions(reconstructions)  # as whatever compares with the stimuli does


def test_the_prepared_imagery(worlds):
    folder, tree, _ = worlds
    vision = PreparedDataset(folder / "imagery", "vision")
    assert vision.names[:2] == ("A_H", "A_R") and len(vision) == 12 and vision.has_image.all()
    assert vision[7]["betas"].shape == (8, LH + RH)
    assert PreparedDataset(folder / "imagery", "imagery")[7]["betas"].shape == (16, LH + RH)
    assert vision.provenance["request"]["normalize"] == "session"
    np.testing.assert_array_equal(vision.ncsnr, tree.ncsnr)
    assert vision.regions is None
    assert [path.name for path in (folder / "imagery").glob("nsd*/1.0.0")] == ["1.0.0"]
    assert (folder / "imagery" / "nsd_imagery").is_dir()


def test_rois_of_voxels_are_reconstructed_from_and_trained_on(worlds, random_backbone):
    folder, _, world = worlds
    entries = json.loads((folder / "reconstructed-rois" / "index.json").read_text())["images"]
    assert sorted(e["name"] for e in entries) == sorted(set(world.test_names))
    settings = Settings(
        prepared=str(folder / "rois"), parcellation=(), backbone=str(random_backbone),
        num_regions=3, per_hemisphere=False, batch_size=5,
    )  # fmt: skip
    setup = TrainingSetup(settings)
    (regions,) = setup.regions
    assert set(regions.names) == {"V1", "LOC", "FFA"}
    assert set(regions.hemispheres) == {"both"}
    np.testing.assert_array_equal(
        np.sort(setup.packing.index[list(regions.names).index("FFA")][:4]), np.arange(17, 21)
    )


def test_a_model_of_other_voxels_is_refused(worlds, random_backbone):
    folder = worlds[0]
    other = Parcellation(
        ("V1",), ("both",), (np.arange(6, dtype=np.int32),),
        PreparedDataset(folder / "rois", "test").num_vertices,
    )  # fmt: skip
    pipeline = NeuroAdapterPipeline.from_pretrained(
        export(random_backbone, other, folder / "other-model")
    )
    with pytest.raises(ValueError, match=r"has no region 'V1' \(both\) of the features of the mod"):
        reconstruct_split(pipeline, PreparedDataset(folder / "rois", "test"), folder / "none")
    assert not (folder / "none").exists()
