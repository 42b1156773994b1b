"""Folders that version 0.1.0 wrote, in v0_1_0/, are read, and give what it read from them."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tiny_backbone import write_backbone

from neuroadapter_jax import read_parcellation
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.input_pipeline import eval_batches
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.neuroadapter import pipeline_of_run
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import load_component, to_tensors
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.encoder.weights import load_dinov2
from neuroadapter_jax.evaluation.results import (
    compare_folders,
    paired_differences,
    read_per_image,
    read_results,
)
from neuroadapter_jax.evaluation.score_table import score_text
from neuroadapter_jax.ibbi.roi import assign_by_name
from neuroadapter_jax.pipeline import (
    NeuroAdapterPipeline,
    interpret_split,
    load_reconstructions,
    load_views,
    reconstruct_split,
)
from neuroadapter_jax.simulation.nsd_writer import load_scenes, load_truth
from neuroadapter_jax.training.brain_encoder import EncoderSettings, train_encoders
from neuroadapter_jax.training.metrics_log import read_metrics
from neuroadapter_jax.training.settings import Settings
from neuroadapter_jax.training.train import load_run, train

WRITTEN = Path(__file__).parent / "v0_1_0"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text())
ARCHIVES = ("prepared", "run", "run_unfinished", "encoder_run")
FOLDERS = (
    *("root", "labels", "vit", "export", "encoder", "views"),
    *("reconstructions", "reconstructions_encoder"),
)
# What 0.1.0 shipped as "neuroadapter-embedded".
SHIPPED = "8306c56c36ab6e4e2e2e3871257cb2d0cedaa4f60d1a1f8d2ae3de25ee49823b"
# Its names of results and truth, and today's.
SCORES = {
    "thing_identification": "object_identity",
    "things_read": "objects_read",
    "things_shown": "objects_shown",
    "things_read_rightly": "objects_read_rightly",
    "things_identified": "objects_identified",
    "num_things": "num_objects",
}
TRUTH = {"area": "roi", "thing_names": "object_names", "things": "objects"}
VIEWS = {"area": "roi", "area_weight": "roi_weight"}
# How its export and its run sample, which wrote "sampler", "start" and "guidance_scale" only.
SAMPLING = Sampling("ddim", 50, 2.5, "noise")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Every folder under the word that the written files have for it; for reading only."""
    place = tmp_path_factory.mktemp("v0_1_0")
    for name in ARCHIVES:
        with tarfile.open(WRITTEN / f"{name}.tar.xz") as archive:
            archive.extractall(place, filter="data")
        (place / name).rename(place / name.upper())
    for name in FOLDERS:
        shutil.copytree(WRITTEN / name, place / name.upper())
    write_backbone(place / "BACKBONE")
    return place


@pytest.fixture(autouse=True)
def here(unpacked, monkeypatch):
    monkeypatch.chdir(unpacked)


@pytest.fixture(scope="module")
def arrays():
    with np.load(WRITTEN / "expected.npz") as file:
        return dict(file)


def digest(array):
    """SHA-256 of dtype, shape and bytes."""
    array = np.ascontiguousarray(array)
    head = f"{array.dtype.str} {array.shape}\n".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


def digest_of_network(network):
    tensors = to_tensors(network)
    lines = [f"{name} {digest(tensors[name])}\n" for name in sorted(tensors)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def renamed(content, names):
    """The content with the keys of its dictionaries in today's words."""
    if isinstance(content, dict):
        return {names.get(key, key): renamed(value, names) for key, value in content.items()}
    return [renamed(x, names) for x in content] if isinstance(content, list) else content


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")}


def of_the_test_images():
    (batch,) = eval_batches(PreparedDataset("PREPARED", "test"), 3)
    return batch


def assert_images(found, expected):
    # Another processor rounds otherwise, which may move a pixel over the border of a grey level.
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_the_backbone_that_the_folders_name_is_still_made_the_same():
    for name, expected in EXPECTED["backbone"].items():
        assert digest_of_network(load_component(Path("BACKBONE"), name)) == expected
    assert digest_of_network(load_dinov2("VIT")) == EXPECTED["vit"]


@pytest.mark.slow
def test_an_export_gives_the_same_images(arrays):
    pipe, expected = NeuroAdapterPipeline.from_pretrained("EXPORT"), EXPECTED["export"]
    assert digest_of_network(pipe.adapter) == expected["adapter"]
    assert pipe.sampling == SAMPLING
    for name in ("guidance_scale", "sampler", "start"):
        assert getattr(pipe.sampling, name) == expected[name]
    assert pipe.num_candidates == expected["num_candidates"]
    assert pipe.num_vertices == expected["num_vertices"]
    assert pipe.provenance == expected["provenance"]
    assert list(pipe.regions.names) == expected["regions"]
    assert pipe.regions.fingerprint() == expected["regions_fingerprint"]
    call = expected["call"]
    images = pipe(
        arrays["export/fmri"],
        pipe.sampling.replace(num_steps=call["num_steps"]),
        num_candidates=call["num_candidates"],
        seed=call["seed"],
    )
    assert_images(images, arrays["export/images"])


def test_the_shipped_adapter_still_has_its_former_name():
    pipe = NeuroAdapterPipeline.from_pretrained("neuroadapter-embedded")
    assert digest_of_network(pipe.adapter) == SHIPPED


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_prepared_records_are_read(split):
    data, expected = PreparedDataset("PREPARED", split), EXPECTED["prepared"][split]
    assert data.image_ids.tolist() == expected["image_ids"]
    assert digest(data.ncsnr) == expected["ncsnr"]
    assert list(data.num_vertices) == expected["num_vertices"]
    (batch,) = eval_batches(data, len(data))
    assert batch.pop("num_valid") == len(data)
    assert {key: digest(value) for key, value in batch.items()} == expected["eval_batch"]
    records = [{key: digest(value) for key, value in data[i].items()} for i in range(len(data))]
    assert records == expected["records"]


def test_a_root_of_the_simulated_subject_is_read():
    expected = EXPECTED["root"]
    truth = {key: digest(value) for key, value in load_truth("ROOT").items()}
    assert truth == renamed(expected["truth"], TRUTH)
    scenes = load_scenes("ROOT", np.array(EXPECTED["prepared"]["test"]["image_ids"]))
    assert [scene.caption for scene in scenes] == expected["captions"]


@pytest.mark.slow
def test_a_run_gives_its_adapters_and_the_same_image(arrays):
    expected = EXPECTED["run"]
    for which, last in (("best", False), ("last", True)):
        setup, adapter, step = load_run("RUN", last=last)
        assert step == expected[which]["step"]
        assert digest_of_network(adapter) == expected[which]["adapter"]
        assert setup.settings.sampling == SAMPLING
    assert read_metrics("RUN/metrics.jsonl") == expected["metrics"]

    pipe = pipeline_of_run("RUN")
    assert list(pipe.regions.names) == expected["regions"]
    assert pipe.regions.fingerprint() == expected["regions_fingerprint"]
    provenance = dict(expected["provenance"])
    training = dict(provenance.pop("training"))
    for name in ("guidance_scale", "sampler", "start"):
        assert getattr(SAMPLING, name) == training.pop(name)
    # Settings that came later stand at what the method did without them.
    training |= {"sampling": SAMPLING.to_dict(), "region_hidden": None, "pixel_weight": 0.0}
    assert pipe.provenance == provenance | {"training": training}
    call = expected["call"]
    images = pipe(
        of_the_test_images()["betas"].astype(np.float32)[:1],
        pipe.sampling.replace(num_steps=call["num_steps"]),
        num_candidates=call["num_candidates"],
        seed=call["seed"],
    )
    assert_images(images, arrays["run/images"])


@pytest.mark.slow
def test_an_unfinished_run_goes_on_to_the_same_adapter(tmp_path):
    folder = shutil.copytree("RUN_UNFINISHED", tmp_path / "run")
    config = (folder / "config.json").read_bytes()
    train(Settings.from_dict(json.loads(config)), folder, progress=False)
    assert (folder / "config.json").read_bytes() == config
    # Another processor rounds otherwise than the one of the whole run.
    lines = read_metrics(folder / "metrics.jsonl")
    for line, expected in zip(lines, EXPECTED["run"]["metrics"], strict=True):
        assert line.pop("kind") == expected["kind"]
        assert line == pytest.approx({k: x for k, x in expected.items() if k != "kind"}, rel=1e-4)
    (_, adapter, step), (_, whole, last) = (load_run(x, last=True) for x in (folder, "RUN"))
    assert step == last == EXPECTED["run"]["last"]["step"]
    found, wanted = to_tensors(adapter), to_tensors(whole)
    assert found.keys() == wanted.keys()
    for name, expected in wanted.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["reconstructions", "reconstructions_encoder"])
def test_reconstructions_and_their_scores_are_read(name):
    expected, folder = EXPECTED[name], name.upper()
    found = load_reconstructions(folder)
    assert found.image_ids.tolist() == expected["image_ids"]
    assert digest(found.stimuli) == expected["seen"]
    assert digest(found.candidates) == expected["drawn"]
    assert digest(found.best) == expected["best"]
    assert found.chosen.tolist() == expected["chosen"]
    assert expected["scores"] == (None if found.scores is None else found.scores.tolist())
    assert found.has_target.all() and found.names == ("", "", "")
    settings = dict(expected["settings"])
    sampling = {key: settings.pop(key) for key in ("guidance_scale", "sampler", "start")}
    sampling = Sampling(num_steps=settings.pop("num_steps"), **sampling, spacing="leading")
    assert found.settings == settings | {"sampling": sampling.to_dict()}

    assert read_results(folder) == renamed(expected["results"], SCORES)
    scores = read_per_image(Path(folder) / "per_image.csv")
    assert scores.image_ids.tolist() == expected["image_ids"]
    columns = {key: values.tolist() for key, values in scores.columns.items()}
    assert columns == renamed(expected["per_image"], SCORES)


def test_scored_folders_are_compared():
    folders = ("RECONSTRUCTIONS", "RECONSTRUCTIONS_ENCODER")
    expected = dict(EXPECTED["paired_differences"])
    expected["one_sided"] = sorted(SCORES.get(x, x) for x in expected["one_sided"])
    assert paired_differences(*folders) == expected
    entry = expected["scores"]["ssim"]
    assert f"{entry['difference']['value']:+.4f}" in compare_folders(*folders)


def test_scores_stand_on_the_card_of_a_model():
    value = EXPECTED["reconstructions_encoder"]["results"]["thing_identification"]["value"]
    lines = score_text(read_results("RECONSTRUCTIONS_ENCODER/results.json")).splitlines()
    (line,) = (line for line in lines if line.startswith("| Object identity"))
    assert f"| {value:.1%} [" in line


def test_reconstructions_are_not_mixed_with_those_of_this_version():
    before = files_of("RECONSTRUCTIONS")
    test, pipe = PreparedDataset("PREPARED", "test"), NeuroAdapterPipeline.from_pretrained("EXPORT")
    with pytest.raises(ValueError, match=r"RECONSTRUCTIONS was written by version 0\.1\.0, .*; "):
        reconstruct_split(pipe, test, "RECONSTRUCTIONS", progress=False)
    assert files_of("RECONSTRUCTIONS") == before


def test_views_are_read_under_todays_names(arrays):
    views, expected = load_views("VIEWS"), EXPECTED["views"]
    # What is of no sample is a coordinate today, and two coordinates are new.
    views = views.reset_coords("roi_weight")
    regions = [name.split(" ")[0] for name in views["region"].values.tolist()]
    assert views["hemisphere"].values.tolist() == regions
    assert views["image_id"].values.tolist() == views["sample"].values.tolist()
    views = views.drop_vars(["hemisphere", "image_id"])
    variables = {name: digest(values) for name, values in views.items()}
    assert variables == renamed(expected["variables"], VIEWS)
    dims = {key: [VIEWS.get(x, x) for x in names] for key, names in expected["dims"].items()}
    assert {name: list(x.dims) for name, x in views.items()} == renamed(dims, VIEWS)
    coordinates = {name: values.values.tolist() for name, values in views.coords.items()}
    assert coordinates == renamed(expected["coordinates"], VIEWS)
    np.testing.assert_array_equal(views["roi_weight"], arrays["views/area_weight"])
    np.testing.assert_array_equal(views["brain_view"], arrays["views/brain_view"])
    attributes = dict(expected["attrs"])
    sampling = {key: attributes.pop(key) for key in ("sampler", "num_steps", "guidance_scale")}
    found = dict(views.attrs)
    assert json.loads(found.pop("sampling")) == sampling
    assert found == attributes | {"rois": attributes.pop("areas")}
    assert list(Parcellation.load("VIEWS/regions.npz").names) == expected["regions"]


def test_views_are_not_mixed_with_those_of_this_version():
    before, pipe = files_of("VIEWS"), NeuroAdapterPipeline.from_pretrained("EXPORT")
    rois = assign_by_name(pipe.regions, EXPECTED["views"]["areas"])
    test = PreparedDataset("PREPARED", "test")
    with pytest.raises(ValueError, match=r"VIEWS was written by version 0\.1\.0, .*; "):
        interpret_split(pipe, test, "VIEWS", rois, progress=False)
    assert files_of("VIEWS") == before


@pytest.mark.slow
def test_an_encoder_predicts_and_ranks_the_same(arrays):
    encoder, expected = BrainEncoder.from_pretrained("ENCODER"), EXPECTED["encoder"]
    assert [digest_of_network(x) for x in encoder._members] == expected["members"]
    assert list(encoder.blocks) == expected["blocks"]
    assert encoder.provenance == expected["provenance"]
    assert encoder.regions.fingerprint() == expected["regions_fingerprint"]
    assert digest(encoder.reliable()) == expected["reliable"]
    batch = of_the_test_images()
    predicted = encoder.predict(batch["image"])
    np.testing.assert_allclose(predicted, arrays["encoder/predict"], rtol=1e-5, atol=1e-6)
    candidates = load_reconstructions("RECONSTRUCTIONS_ENCODER").candidates
    regions = NeuroAdapterPipeline.from_pretrained("EXPORT").regions
    scores = encoder.rank(candidates, batch["betas"].astype(np.float32), regions)
    np.testing.assert_allclose(scores, arrays["encoder/rank"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_finished_training_of_encoders_gives_the_same_encoder(tmp_path):
    folder = shutil.copytree("ENCODER_RUN", tmp_path / "run")
    lines = (folder / "block1_run0" / "metrics.jsonl").read_bytes()
    values = EXPECTED["encoder"]["provenance"]["training"]
    settings = {key: tuple(x) if isinstance(x, list) else x for key, x in values.items()}
    model = train_encoders(EncoderSettings(**settings), folder, progress=False)
    assert (folder / "block1_run0" / "metrics.jsonl").read_bytes() == lines
    found = BrainEncoder.from_pretrained(model)
    assert [digest_of_network(x) for x in found._members] == EXPECTED["encoder"]["members"]


def test_label_files_are_read():
    regions = read_parcellation("LABELS/lh.tiny.annot", "LABELS/rh.tiny.annot", (13, 17))
    assert sorted(regions.names) == ["a", "b", "c", "d", "e", "f"]
    assert regions.fingerprint() == EXPECTED["encoder"]["regions_fingerprint"]
