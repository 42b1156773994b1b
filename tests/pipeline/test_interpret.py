"""The files of `neuroadapter interpret`: what is in them, and that a killed run goes on."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import xarray
from tiny_pipeline import LH, RH, make_pipeline

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import ExistingFileError
from neuroadapter_jax.ibbi.roi import assign_by_name
from neuroadapter_jax.pipeline import (
    InterpretationSettings,
    NeuroAdapterPipeline,
    interpret_split,
    load_views,
)

IDS = np.array([2, 3, 17, 40, 59])
SAMPLING = Sampling(num_steps=3, guidance_scale=2.5)
SETTINGS = InterpretationSettings(SAMPLING, num_shown=2, group_size=3)


class Records(PreparedDataset):
    """A split in memory."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.path, self.split, self.image_ids = Path("prepared"), "test", IDS
        self.provenance, self.fingerprint = {"request": {"subject": 1}}, "records"
        self.num_vertices = (LH, RH)
        self.ncsnr = np.linspace(0, 1, LH + RH, dtype=np.float32)
        self.ncsnr[7] = np.nan
        self.betas = rng.standard_normal((len(IDS), 2, LH + RH)).astype(np.float16)
        self.images = rng.integers(0, 256, (len(IDS), 64, 64, 3), np.uint8)

    def __len__(self):
        return len(IDS)

    def __getitem__(self, i):
        latent = np.zeros((16, 16, 4), np.float16)
        return {
            "image": self.images[i],
            "image_id": IDS[i],
            "betas": self.betas[i],
            "latent_mean": latent,
            "latent_std": latent,
        }


class Painting(NeuroAdapterPipeline):
    """What a folder's checks need of a pipeline."""

    def __init__(self, whole):
        self.regions, self.provenance = whole.regions, whole.provenance
        self.sampling, self.backbone, self.networks = whole.sampling, whole.backbone, whole.networks


@pytest.fixture(scope="module")
def pipeline(random_backbone):
    return make_pipeline(random_backbone)


@pytest.fixture(scope="module")
def rois(pipeline):
    return assign_by_name(pipeline.regions, {"left": ["a", "b"], "none": [], "d": ["rh.d"]})


@pytest.fixture(scope="module")
def folder(pipeline, rois, tmp_path_factory):
    return interpret_split(
        pipeline, Records(), tmp_path_factory.mktemp("v"), rois, SETTINGS, progress=False
    )


@pytest.mark.slow
def test_the_files_describe_themselves(pipeline, rois, folder):
    first = xarray.load_dataset(folder / "views-00000.nc", engine="h5netcdf")
    assert first.sizes["sample"] == 3
    views = load_views(folder)
    assert views["sample"].values.tolist() == IDS.tolist()
    assert views["region"].values.tolist() == ["lh a", "lh b", "rh c", "rh d"]
    assert views["roi"].values.tolist() == ["left", "none", "d"]
    assert views["shown"].values.tolist() == [1, 2]
    assert views["timestep"].values.tolist() == [667, 334, 1]
    assert (
        views.attrs["reduction"] == "attention"
        and json.loads(views.attrs["sampling"])["num_steps"] == 3
    )
    np.testing.assert_allclose(views["brain_view"].sum("region"), 1, atol=1e-5)
    for name in ("image_view", "effect_view"):
        total = views[name].sum(("y", "x"), skipna=False)
        np.testing.assert_allclose(total.sel(roi=["left", "d"]), 1, atol=1e-5)
        assert np.isnan(views[name].sel(roi="none")).all()
    np.testing.assert_array_equal(views["roi_weight"], rois.weights)
    np.testing.assert_array_equal(views["stimulus"], Records().images)

    # What is in them is what the pipeline gives, last group included.
    fmri = np.stack([x.astype(np.float32).mean(0).astype(np.float16) for x in Records().betas])
    reconstructions = pipeline(fmri.astype(np.float32), SAMPLING)[:, 0]
    assert np.abs(views["image"].values.astype(int) - reconstructions).max() <= 1
    share = views["brain_view"].values[1, 2]
    entropy = -(share * np.log(share)).sum() / np.log(4)
    np.testing.assert_allclose(views["entropy"][1, 2], entropy, rtol=1e-5)
    assert Parcellation.load(folder / "regions.npz").names == ("a", "b", "c", "d")
    assert (folder / "rois.csv").read_text().count("\n") == 5


@pytest.mark.slow
def test_a_killed_run_goes_on(pipeline, rois, folder):
    expected = load_views(folder)
    (folder / "views-00001.nc").unlink()
    before = (folder / "views-00000.nc").stat().st_mtime_ns
    interpret_split(pipeline, Records(), folder, rois, SETTINGS, progress=False)
    assert (folder / "views-00000.nc").stat().st_mtime_ns == before
    xarray.testing.assert_identical(load_views(folder), expected)
    other = dataclasses.replace(SETTINGS, sampling=SAMPLING.replace(num_steps=5))
    with pytest.raises(ValueError, match=r"holds views .*sampling\.num_steps is 3 there, 5 here; "):
        interpret_split(pipeline, Records(), folder, rois, other, progress=False)


def test_a_call_that_failed_before_its_first_views_binds_nobody(tmp_path, rois, pipeline):
    class Failing(Painting):
        def interpret(self, *arguments, **settings):
            raise ValueError("num_steps is 0")

    failing = Failing(pipeline)
    with pytest.raises(ValueError, match="num_steps is 0"):
        interpret_split(failing, Records(), tmp_path / "out", rois, SETTINGS, progress=False)
    assert not (tmp_path / "out").exists()
    other = dataclasses.replace(SETTINGS, seed=7)
    (tmp_path / "out").mkdir()
    note = {key: None for key in json.loads(json.dumps(dataclasses.asdict(other)))}
    del note["allow_other"]
    (tmp_path / "out" / "settings.json").write_text(json.dumps(note | {"seed": 9}))
    with pytest.raises(ValueError, match="num_steps is 0"):  # and not that seed is 9 there
        interpret_split(failing, Records(), tmp_path / "out", rois, other, progress=False)


@pytest.mark.parametrize("name", ["regions.npz", "rois.csv", "views-00000.nc", "report.html"])
def test_files_of_someone_else_are_left_alone(tmp_path, rois, pipeline, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ExistingFileError, match=f"holds {name} already, which this run did not"):
        interpret_split(Painting(pipeline), Records(), tmp_path, rois, SETTINGS, progress=False)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


def test_a_folder_without_views_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no views-\*\.nc; expected a folder of"):
        load_views(tmp_path)


@pytest.mark.slow
def test_views_are_made_of_the_models_data_and_go_on_with_the_same_content(
    pipeline, rois, tmp_path, monkeypatch
):
    records = Records()
    monkeypatch.setattr(pipeline, "provenance", {"data": {"subject": 2}})
    with pytest.raises(ValueError, match="subject is 2 for the model, 1 for the records prepared"):
        interpret_split(pipeline, records, tmp_path / "out", rois, SETTINGS, progress=False)
    assert not (tmp_path / "out").exists()
    meant = dataclasses.replace(SETTINGS, allow_other=("subject",))

    interpret_split(pipeline, records, tmp_path / "out", rois, meant, progress=False)
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["other_data"] == {"subject": [2, 1]} and "allow_other" not in settings
    records.fingerprint = "recorded anew"
    with pytest.raises(ValueError, match="the content of prepared is another than then, recorded"):
        interpret_split(pipeline, records, tmp_path / "out", rois, meant, progress=False)


@pytest.mark.slow
def test_the_files_open_lazily_as_one_dataset_with_xarray_alone(pipeline, folder):
    pytest.importorskip("dask")
    views = load_views(folder)
    with xarray.open_mfdataset(str(folder / "views-*.nc")) as lazy:
        assert lazy["brain_view"].chunks is not None and lazy["image_view"].chunks is not None
        assert {name: (x.dims, x.dtype) for name, x in lazy.variables.items()} == {
            name: (x.dims, x.dtype) for name, x in views.variables.items()
        }
        xarray.testing.assert_equal(lazy.load(), views)
    assert views["image_id"].values.tolist() == IDS.tolist()
    assert views["hemisphere"].values.tolist() == ["lh", "lh", "rh", "rh"]
    # Regions a to d: vertices 0, 3, 5 | 7 | 1, 2, 8, 11, 16 and 4, 6 of the right hemisphere.
    snr = np.linspace(0, 1, LH + RH)
    expected = [snr[[0, 3, 5]].mean(), np.nan, snr[LH + np.array([1, 2, 8, 11, 16])].mean()]
    found = views["noise_ceiling_snr"].values
    np.testing.assert_allclose(found, [*expected, snr[LH + np.array([4, 6])].mean()], rtol=1e-6)
    share = views["brain_view"].groupby("hemisphere").sum("region").sel(sample=17)
    np.testing.assert_allclose(share.sum("hemisphere"), 1, rtol=1e-5)


@pytest.mark.slow
def test_a_folder_that_an_earlier_version_began_is_read(folder, tmp_path):
    views = load_views(folder)
    later = ["image_id", "hemisphere", "noise_ceiling_snr"]
    for path in sorted(folder.glob("views-*.nc")):
        group = xarray.load_dataset(path, engine="h5netcdf")
        group = group.drop_vars(later) if path.stem.endswith("0") else group
        group.to_netcdf(tmp_path / path.name, engine="h5netcdf")
    found = load_views(tmp_path)
    xarray.testing.assert_equal(found, views.drop_vars("noise_ceiling_snr"))
