"""What goes to the Hub, read back by huggingface_hub itself; the network is not there."""

import inspect
import json
import shutil
from pathlib import Path
from unittest import mock

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.numpy import load_file, save_file
from tiny_pipeline import make_pipeline

from neuroadapter_jax.commands import program
from neuroadapter_jax.diffusion.weights import ASSETS
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.evaluation.for_cards import card_scores
from neuroadapter_jax.hub.cards import CardDetails
from neuroadapter_jax.hub.kinds import ADAPTER, ENCODER
from neuroadapter_jax.hub.publishing import check_repo, prepare_publication, publish
from neuroadapter_jax.pipeline import NeuroAdapterPipeline

COMMIT = "89abcdef01234567" * 2 + "89abcdef"
SHIPPED = ASSETS / "neuroadapter-simulated"
LICENCE = CardDetails("cc-by-sa-4.0")
SD = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the Hub."""
    place = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(place))
    return place


@pytest.fixture
def hub(cache, monkeypatch):
    """A Hub whose uploads land in the cache, from where huggingface_hub reads them offline."""
    kind = mock.create_autospec(HfApi)
    api = kind.return_value
    api.create_repo.side_effect = lambda repo, **_: f"https://huggingface.co/{repo}"
    api.list_repo_files.return_value = [".gitattributes"]

    def upload(*, repo_id, folder_path, **_):
        store = cache / f"models--{repo_id.replace('/', '--')}"
        (store / "refs").mkdir(parents=True)
        (store / "refs" / "main").write_text(COMMIT)
        shutil.copytree(folder_path, store / "snapshots" / COMMIT)

    api.upload_folder.side_effect = upload
    monkeypatch.setattr(huggingface_hub, "HfApi", kind)
    return api


def write_encoder(folder: Path, backbone: str = "facebook/dinov2-base", **more) -> Path:
    folder.mkdir(parents=True)
    config = {"features": {"backbone": backbone}, "encoder": {"num_regions": 3}, "provenance": {}}
    (folder / "config.json").write_text(json.dumps(config | more))
    for name in ("encoder_0", "encoder_1"):
        save_file({"x": np.zeros(1, np.float32)}, folder / f"{name}.safetensors")
    for name in ("regions", "validation"):
        np.savez(folder / f"{name}.npz", x=np.zeros(1))
    return folder


def write_model(folder: Path, backbone: str, **more) -> Path:
    """The shipped adapter's folder, with another backbone in config.json."""
    shutil.copytree(SHIPPED, folder)
    config = json.loads((folder / "config.json").read_text())
    config["provenance"]["data"]["dataset"] = "nsd"
    (folder / "config.json").write_text(json.dumps(config | {"backbone": backbone} | more))
    return folder


def write_results(folder: Path, **reconstructions) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        "num_images": 515,
        "reconstructions": {"split": "test", "data": {"dataset": "nsd"}, **reconstructions},
        "metrics": {
            "pixcorr": {"value": 0.25, "interval": [0.21, 0.29]},
            "ssim": {"value": None, "interval": None},
        },
        "missing": {},
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def write_views(folder: Path, **settings) -> Path:
    for name in ("report.html", "rois.csv", "views-00000.nc", "figures/a.png", "maps/lh.V1.mgh"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


def test_the_card_holds_metadata_that_the_hub_reads(tmp_path):
    model = write_model(tmp_path / "model", SD)
    details = CardDetails(
        "cc-by-4.0", datasets=("lab/nsd",), scores=card_scores(write_results(tmp_path / "recon"))
    )
    views = write_views(tmp_path / "views")
    files = prepare_publication(model, tmp_path / "out", "lab/subj01", ADAPTER, details, views)
    card = ModelCard.load(tmp_path / "out" / "README.md")
    found = card.data
    assert (found.license, found.library_name, found.base_model) == (
        "cc-by-4.0",
        "neuroadapter-jax",
        SD,
    )
    assert (found.datasets, found.metrics) == (["lab/nsd"], ["pixcorr"])
    assert {"fmri", "jax", "brain-decoding"} <= set(found.tags)
    (result,) = found.eval_results
    assert (result.metric_type, result.metric_value) == ("pixcorr", 0.25)
    assert result.metric_args == {"interval_95": [0.21, 0.29], "num_images": 515}
    assert (result.dataset_name, result.dataset_split) == ("nsd", "test")
    assert 'NeuroAdapterPipeline.from_pretrained("lab/subj01")' in card.text
    assert "0.250 [0.210, 0.290]" in card.text and "515 test images" in card.text
    assert "interpretation/report.html?download=true" in card.text
    assert "](interpretation/figures/a.png)" in card.text
    assert files == sorted(
        p.relative_to(tmp_path / "out").as_posix()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    )
    assert "interpretation/report.html" in files and "interpretation/maps/lh.V1.mgh" in files
    assert not any(name.endswith(".nc") for name in files)


def test_another_licence_has_its_name_and_its_text(tmp_path):
    details = CardDetails("other", "lab-licence-1.0", "https://lab.example/licence")
    prepare_publication(SHIPPED, tmp_path / "out", "lab/x", ADAPTER, details)
    found = ModelCard.load(tmp_path / "out" / "README.md").data
    assert (found.license, found.license_name) == ("other", "lab-licence-1.0")
    assert found.license_link == "https://lab.example/licence"
    # tiny-sd ships with the package and is no model of the Hub.
    assert found.base_model is None and found.datasets is None and found.eval_results is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("cc-by-4",), "did you mean cc-by-4.0"),
        (("MIT",), "did you mean mit"),
        (("",), "expected one of"),
        (("other",), "needs licence_name and licence_link"),
        (("other", "Lab Licence", "x"), "small letters"),
        (("mit", "lab"), "no effect beside the licence 'mit'"),
        (("mit", None, None, "sd15"), "owner/model"),
    ],
)
def test_a_licence_or_base_model_that_the_hub_does_not_know_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        CardDetails(*given)


def test_no_path_of_this_machine_is_published(tmp_path):
    provenance = {
        "training": {
            "prepared": "/home/someone/prepared",
            "parcellation": ["/data/lh.x.annot", "C:\\data\\rh.x.annot"],
            "prefix": "~someone/y",
        },
        "data": {"subject": 1, "share": 0.5, "sessions": [1, 2]},
    }
    model = write_model(tmp_path / "model", "/home/someone/sd15", provenance=provenance)
    with pytest.raises(InputError, match=r"/home/someone/sd15.*--base_model"):
        prepare_publication(model, tmp_path / "out", "lab/x", ADAPTER, LICENCE)
    assert not (tmp_path / "out").exists()
    details = CardDetails("mit", base_model=f"{SD}@main")
    prepare_publication(model, tmp_path / "out", "lab/x", ADAPTER, details)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["backbone"] == f"{SD}@main"
    assert config["provenance"]["training"] == {
        "prepared": "prepared",
        "parcellation": ["lh.x.annot", "rh.x.annot"],
        "prefix": "y",
    }
    assert config["provenance"]["data"] == provenance["data"]
    for path in (tmp_path / "out").glob("*"):
        assert b"someone" not in path.read_bytes()
    for name in ("adapter.safetensors", "regions.npz"):
        assert (tmp_path / "out" / name).read_bytes() == (SHIPPED / name).read_bytes()
    assert ModelCard.load(tmp_path / "out" / "README.md").data.base_model == SD


def test_a_folder_that_looks_like_a_name_of_the_hub_is_known_by_its_missing_commit(tmp_path):
    model = write_model(tmp_path / "model", "runs/sd15", backbone_fingerprint={"unet": "1"})
    with pytest.raises(InputError, match="names the backbone 'runs/sd15'"):
        prepare_publication(model, tmp_path / "out", "lab/x", ADAPTER, LICENCE)


@pytest.mark.parametrize("what", ["scores", "views"])
def test_scores_and_views_of_another_model_are_refused(tmp_path, what):
    other = {"step": 3, "data": {"subject": 1}}
    views, details = None, LICENCE
    if what == "scores":
        details = CardDetails("mit", scores=card_scores(write_results(tmp_path / "r", model=other)))
    else:
        views = write_views(tmp_path / "views", model=other)
    with pytest.raises(InputError, match=r"of another model than .*neuroadapter-simulated"):
        prepare_publication(SHIPPED, tmp_path / "out", "lab/x", ADAPTER, details, views)
    assert not (tmp_path / "out").exists()


def test_views_without_a_page_are_refused(tmp_path):
    (tmp_path / "views").mkdir()
    with pytest.raises(MissingFileError, match=r"report\.html: not found.*neuroadapter interpret"):
        prepare_publication(
            SHIPPED, tmp_path / "out", "lab/x", ADAPTER, LICENCE, tmp_path / "views"
        )


def test_a_folder_of_another_kind_is_refused(tmp_path):
    encoder = write_encoder(tmp_path / "encoder")
    with pytest.raises(InputError, match="holds a brain encoder; expected a NeuroAdapter"):
        prepare_publication(encoder, tmp_path / "out", "lab/x", ADAPTER, LICENCE)
    with pytest.raises(InputError, match="holds a NeuroAdapter; expected a brain encoder"):
        prepare_publication(SHIPPED, tmp_path / "out", "lab/x", ENCODER, LICENCE)
    (encoder / "validation.npz").unlink()
    with pytest.raises(MissingFileError, match=r"validation\.npz: not found"):
        prepare_publication(encoder, tmp_path / "out", "lab/x", ENCODER, LICENCE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("repo", ["name", "a/b/c", "a/", "/b", "a/-b", "a/b--c", "a b/c", ""])
def test_a_repository_is_an_owner_and_a_name(repo):
    with pytest.raises(InputError, match="expected owner/model"):
        check_repo(repo)


def test_a_pipeline_comes_back_from_the_hub_as_it_went(hub, random_backbone, tmp_path):
    pipeline = make_pipeline(random_backbone)
    card = CardDetails("mit", base_model=SD)
    address = pipeline.push_to_hub("lab/tiny", card, private=True, revision="main")
    assert address == "https://huggingface.co/lab/tiny"
    hub.create_repo.assert_called_once_with("lab/tiny", private=True, exist_ok=True)
    again = NeuroAdapterPipeline.from_pretrained("lab/tiny", random_backbone)
    assert again.fingerprint == pipeline.fingerprint
    assert again.regions.fingerprint() == pipeline.regions.fingerprint()
    assert (again.sampling, again.provenance) == (pipeline.sampling, pipeline.provenance)
    by_commit = NeuroAdapterPipeline.from_pretrained(
        "lab/tiny", random_backbone, revision=COMMIT, allow_other=("backbone",)
    )
    assert by_commit.fingerprint == pipeline.fingerprint
    with pytest.raises(InputError, match="give one of them"):
        NeuroAdapterPipeline.from_pretrained("lab/tiny@main", revision="main")
    with pytest.raises(InputError, match="the Hub's lab/tiny holds a NeuroAdapter; expected a br"):
        BrainEncoder.from_pretrained("lab/tiny")
    with pytest.raises(InputError, match="no model of the Hub, and revision is 'main'"):
        NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated", revision="main")
    with pytest.raises(FileNotFoundError, match=r"lab/none: no folder of this name is here, and"):
        NeuroAdapterPipeline.from_pretrained("lab/none")


def test_an_encoder_goes_with_all_its_members_and_old_ones_are_removed(hub, cache, tmp_path):
    folder = write_encoder(tmp_path / "encoder")
    publish(folder, "lab/encoder", ENCODER, LICENCE)
    there = cache / "models--lab--encoder" / "snapshots" / COMMIT
    names = {path.name for path in there.iterdir()}
    assert names == {path.name for path in folder.iterdir()} | {"README.md"}
    assert load_file(there / "encoder_1.safetensors").keys() == {"x"}
    assert hub.upload_folder.call_args.kwargs["delete_patterns"] == ["encoder_*.safetensors"]
    card = ModelCard.load(there / "README.md")
    assert card.data.base_model == "facebook/dinov2-base" and "brain-encoding" in card.data.tags
    assert 'BrainEncoder.from_pretrained("lab/encoder")' in card.text


def test_a_repository_of_another_kind_of_model_is_left_alone(hub, tmp_path):
    hub.list_repo_files.return_value = ["encoder_0.safetensors", "README.md"]
    with pytest.raises(InputError, match="lab/x holds a brain encoder"):
        publish(SHIPPED, "lab/x", ADAPTER, LICENCE)
    hub.upload_folder.assert_not_called()


def answer(kind, status):
    """An error of the Hub as huggingface_hub raises it."""
    response = mock.Mock(status_code=status, headers={}, request=mock.Mock())
    keys = {"response": response} if "response" in inspect.signature(kind).parameters else {}
    return kind("it said no.", **keys)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LocalTokenNotFoundError("no token"), "nobody is logged in.*hf auth login"),
        (answer(HfHubHTTPError, 401), "does not know who sends.*hf auth login"),
        (answer(HfHubHTTPError, 403), "does not let this user write to lab/x"),
        (answer(RepositoryNotFoundError, 404), "does not let this user write to lab/x"),
        (answer(RevisionNotFoundError, 404), "no such branch"),
        (answer(HfHubHTTPError, 500), "the Hub refused lab/x"),
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set.*--dry_run"),
        (ConnectionError("no route"), "cannot be reached.*no route"),
    ],
)
def test_what_the_hub_answers_is_one_sentence(hub, error, words):
    hub.create_repo.side_effect = error
    with pytest.raises(InputError, match=words) as caught:
        publish(SHIPPED, "lab/x", ADAPTER, LICENCE)
    assert "\n" not in str(caught.value)


def test_a_mistake_of_ours_keeps_its_traceback(hub):
    hub.create_repo.side_effect = TypeError("ours")
    with pytest.raises(TypeError, match="ours"):
        publish(SHIPPED, "lab/x", ADAPTER, LICENCE)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (answer(RepositoryNotFoundError, 404), "has no model lab/x or it is private"),
        (answer(RevisionNotFoundError, 404), "no such revision"),
        (OfflineModeIsEnabled("offline"), "not in the Hub's cache.*HF_HUB_OFFLINE"),
        (OSError("strange"), "did not give it .OSError, strange"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(monkeypatch, error, words):
    fetch = mock.create_autospec(huggingface_hub.snapshot_download, side_effect=error)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    for load in (NeuroAdapterPipeline.from_pretrained, BrainEncoder.from_pretrained):
        with pytest.raises(MissingFileError, match=words) as caught:
            load("lab/x")
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_dry_run_says_what_would_be_sent_and_sends_nothing(hub, tmp_path, capsys):
    model, out = write_model(tmp_path / "model", SD), tmp_path / "out"
    line = f"publish --model {model} --repo lab/x --licence cc-by-4.0 --dry_run --out {out}"
    program.main(line.split())
    said = capsys.readouterr().out
    files = {path.name: path.stat().st_size for path in out.iterdir()}
    assert set(files) == {"README.md", "adapter.safetensors", "config.json", "regions.npz"}
    for name, size in files.items():
        assert f"{size:,} bytes  {name}\n" in said
    assert f"Not sent: {out} holds what would be in lab/x." in said
    hub.create_repo.assert_not_called()
    program.main([*line.split(" --dry_run")[0].split(), "--private", "--message", "first"])
    assert "Published: https://huggingface.co/lab/x\n" in capsys.readouterr().out
    hub.create_repo.assert_called_once_with("lab/x", private=True, exist_ok=True)
    assert hub.upload_folder.call_args.kwargs["commit_message"] == "first"
