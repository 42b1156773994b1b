"""Studies refuse what is of other data before they compute anything."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from prepared_records import write_prepared
from tiny_encoder import parcellation

from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.evaluation.score_folder import score_folder
from neuroadapter_jax.pipeline import load_reconstructions, write_reconstructions
from neuroadapter_jax.studies.ablation import run as ablation
from neuroadapter_jax.studies.encoder_accuracy import evaluate_encoder
from neuroadapter_jax.studies.interpretation import ROISource

IDS = {"train": [0, 3], "validation": [1], "test": [2, 5]}


@pytest.fixture
def records(tmp_path, as_user):
    return write_prepared(tmp_path / "records", 1, IDS, (19, 13), beta_version="betas_v")


def model(**data):
    return SimpleNamespace(regions=parcellation(), provenance={"data": data}, allow_other=())


def other_root(folder):
    """A folder of a simulated subject that the records are not of."""
    folder.mkdir()
    (folder / "simulation.json").write_text(json.dumps({"seed": 9}))
    return folder


def say_simulated(records):
    path = records / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"simulation": {"seed": 1}}))


def test_an_encoder_is_measured_on_its_own_data(records, tmp_path):
    with pytest.raises(ValueError, match="normalize is 'none' for the encoder, 'session' for the"):
        evaluate_encoder(model(normalize="none"), records, tmp_path / "out")
    say_simulated(records)
    root = other_root(tmp_path / "root")
    with pytest.raises(ValueError, match=r"root holds another simulated subject .*seed is 9 for"):
        evaluate_encoder(model(), records, tmp_path / "out", root)
    assert not (tmp_path / "out").exists()


def test_label_files_are_those_of_the_models_subject(records, tmp_path):
    root, test = tmp_path / "nsd", PreparedDataset(records, "test")
    with pytest.raises(ValueError, match="subject is 2 for the model, 5 for the label files"):
        ROISource(root=root, subject=5).load(model(subject=2), test)
    # Left out, it is the model's own: the folder that is looked for says so.
    for chosen, data, name in ((None, {"subject": 2}, "subj02"), (None, {}, "subj01"),
                               (5, {}, "subj05")):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            ROISource(root=root, subject=chosen).load(model(**data), test)
    with pytest.raises(ValueError, match="subj05"):
        ROISource(root=root, subject=5).load(model(subject=2), test, ["subject"])
    with pytest.raises(ValueError, match=r"subject is 'sub-01'; expected a number"):
        ROISource(root=root).load(model(subject="sub-01"), test)
    say_simulated(records)
    with pytest.raises(ValueError, match="another simulated subject"):
        ROISource(root=other_root(tmp_path / "other")).load(
            model(), PreparedDataset(records, "test")
        )


def test_a_folder_is_scored_with_its_own_records_and_root(records, tmp_path):
    dataset = PreparedDataset(records, "test")
    images = np.stack([dataset[i]["image"] for i in range(2)])
    folder = tmp_path / "out"
    write_reconstructions(folder, dataset, images, {})
    assert load_reconstructions(folder).settings["data"]["normalize"] == "session"
    other = write_prepared(tmp_path / "other", 1, IDS, (19, 13), normalize="none")
    with pytest.raises(ValueError, match=r"normalize is 'session' for .*'none' for .* together\.$"):
        score_folder(folder, prepared=other, progress=False)
    say_simulated(records)
    with pytest.raises(ValueError, match="another simulated subject"):
        score_folder(folder, prepared=records, root=other_root(tmp_path / "root"), progress=False)
    assert not (folder / "results.json").exists()


def test_an_ablation_goes_on_with_the_same_content_only(records, tmp_path):
    encoder, out = tmp_path / "encoder", tmp_path / "out"
    encoder.mkdir()
    (encoder / "encoder_0.safetensors").write_bytes(b"weights")
    (encoder / "config.json").write_text(json.dumps({"provenance": {"data": {"subject": 1}}}))
    nowhere = tmp_path / "nowhere"
    ablation._require_same_inputs(out, nowhere, nowhere, None)  # nothing is there yet
    ablation._require_same_inputs(out, records, encoder, nowhere)
    moved = records.rename(tmp_path / "moved")
    ablation._require_same_inputs(out, moved, encoder, None)
    (encoder / "encoder_0.safetensors").write_bytes(b"others!")
    with pytest.raises(ValueError, match="the content of encoder is another than then"):
        ablation._require_same_inputs(out, moved, encoder, None)
    (encoder / "config.json").write_text(json.dumps({"provenance": {"data": {"subject": 4}}}))
    with pytest.raises(ValueError, match="subject is 4 for the encoder, 1 for the records"):
        ablation._require_same_inputs(out, moved, encoder, None)
