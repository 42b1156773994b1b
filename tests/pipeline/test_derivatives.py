"""BIDS derivatives: names by the standard's own schema where it is here, tables by pandas."""

import json
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

from neuroadapter_jax.errors import ExistingFileError, InputError
from neuroadapter_jax.pipeline import write_derivatives
from neuroadapter_jax.pipeline.derivatives import BIDS_VERSION, COLUMNS, labels_of

IDS = [73, 5, 73000]
SAMPLING = {"sampler": "ddim", "num_steps": 7, "guidance_scale": 2.5}
SETTINGS = {
    "data": {"dataset": "nsd", "subject": 1},
    "prepared": "/home/someone/prepared",
    "seed": 11,
    "sampling": SAMPLING,
    "own_responses": True,
}
SCORES = [[0.25, 0.5], [0.125, -0.5], [0.0, 0.75]]


def write(folder: Path, count=2, ranked=True, **settings) -> Path:
    """A folder in the layout of `neuroadapter reconstruct`."""
    rng = np.random.default_rng(4)
    (folder / "images").mkdir(parents=True)
    entries = []
    for image_id, scores in zip(IDS, SCORES, strict=True):
        entry = {"image_id": image_id, "stimulus": None, "candidates": []}
        if ranked:
            entry |= {"scores": scores, "chosen": int(np.argmax(scores))}
        for j in range(count):
            name = f"images/{image_id}_{j}.png"
            Image.fromarray(rng.integers(0, 256, (3, 5, 3), np.uint8)).save(folder / name)
            entry["candidates"].append(name)
        entries.append(entry)
    index = {"settings": SETTINGS | settings, "images": entries}
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def read(table: Path) -> pandas.DataFrame:
    return pandas.read_csv(table, sep="\t", na_values=["n/a"], keep_default_na=False)


def test_the_table_finds_every_image_and_says_which_counts(tmp_path):
    recon = write(tmp_path / "recon")
    out = tmp_path / "derivatives" / "neuroadapter"
    path = write_derivatives(recon, out)
    assert path == out / "sub-01/func/sub-01_task-nsd_reconstructions.tsv"
    table = read(path)
    assert list(table.columns) == list(json.loads(path.with_suffix(".json").read_text()))
    assert table["image_id"].tolist() == [i for i in IDS for _ in range(2)]
    assert table["candidate"].tolist() == [0, 1] * 3
    assert table["score"].tolist() == [x for row in SCORES for x in row]
    assert table["chosen"].astype(str).str.lower().tolist() == [
        *("false", "true"),
        *("true", "false"),
        *("false", "true"),
    ]
    assert set(table["seed"]) == {11} and set(table["num_steps"]) == {7}
    assert set(table["responses"]) == {"own"} and table["stimulus"].isna().all()
    for _, row in table.iterrows():
        there = np.asarray(Image.open(out / row["filename"]))
        original = recon / "images" / f"{row['image_id']}_{row['candidate']}.png"
        np.testing.assert_array_equal(there, np.asarray(Image.open(original)))
    made = json.loads((out / "sub-01/func/sub-01_task-nsd_reconstruction.json").read_text())
    assert made["Settings"]["sampling"] == SAMPLING
    assert made["Settings"]["prepared"] == "prepared"
    described = read(out / "sub-01/sub-01_descriptions.tsv")
    labels = [re.search(r"_(desc-[^_]+)_", name)[1] for name in table["filename"]]
    assert sorted(labels) == described["desc_id"].tolist()


def test_names_and_descriptions_follow_the_standards_schema(tmp_path):
    schema = pytest.importorskip("bidsschematools.schema").load_schema()
    out = tmp_path / "out"
    write_derivatives(write(tmp_path / "recon"), out)
    short = {entity: schema.objects.entities[entity]["name"] for entity in schema.rules.entities}
    order = [short[entity] for entity in schema.rules.entities]
    label = re.compile(schema.objects.formats.label["pattern"])
    names = [path for path in out.rglob("sub-*_*")]
    assert len(names) == 6 + 3 + 2
    for path in names:
        *entities, suffix = path.name.split(".")[0].split("_")
        keys, values = zip(*(entity.split("-") for entity in entities), strict=True)
        assert list(keys) == sorted(keys, key=order.index), path
        assert all(label.fullmatch(value) for value in values) and suffix.isalnum()
    found = json.loads((out / "dataset_description.json").read_text())
    assert found["BIDSVersion"] in schema.meta.versions
    column = re.compile(schema.objects.columns.desc_id["pattern"])
    described = read(out / "sub-01" / "sub-01_descriptions.tsv")
    assert len(described) == 6 and all(column.fullmatch(label) for label in described["desc_id"])
    rules = schema.rules.json.dataset
    for rule in (rules.dataset_description, rules.derivative_description):
        for key, level in rule["fields"].items():
            assert key in found or level != "required", key
    assert found.keys() <= set(rules.dataset_description["fields"])
    types = schema.objects.metadata
    assert found["DatasetType"] in types.DatasetType["enum"]
    assert set(found["GeneratedBy"][0]) <= set(types.GeneratedBy["items"]["properties"])


def test_names_have_the_standards_form(tmp_path):
    out = tmp_path / "out"
    write_derivatives(write(tmp_path / "recon"), out, task="core+extra")
    form = re.compile(
        r"sub-[0-9a-zA-Z+]+(_task-[0-9a-zA-Z+]+)?(_desc-[0-9a-zA-Z+]+)?_[a-z]+\.(png|tsv|json)"
    )
    for path in out.rglob("sub-*_*"):
        assert form.fullmatch(path.name), path
        ignored = (out / ".bidsignore").read_text().split()
        ours = any(path.match(pattern) for pattern in ignored)
        assert ours == ("reconstruction" in path.name)
    found = json.loads((out / "dataset_description.json").read_text())
    assert found["DatasetType"] == "derivative" and found["BIDSVersion"] == BIDS_VERSION
    assert found["SourceDatasets"] == [{"URL": "https://naturalscenesdataset.org"}]


def test_subjects_share_a_dataset_and_the_same_folder_is_written_again(tmp_path):
    out, first = tmp_path / "out", write(tmp_path / "one")
    path = write_derivatives(first, out)
    before = path.read_bytes()
    data = SETTINGS["data"] | {"subject": 7}
    write_derivatives(write(tmp_path / "two", data=data), out)
    write_derivatives(first, out)
    assert path.read_bytes() == before
    assert {p.name for p in out.iterdir() if p.is_dir()} == {"sub-01", "sub-07"}
    other = write(tmp_path / "other", seed=12)
    with pytest.raises(InputError, match="seed is 11 there, 12 here"):
        write_derivatives(other, out)
    write_derivatives(other, out, task="again")
    described = read(out / "sub-01" / "sub-01_descriptions.tsv")
    assert len(described) == 6


def test_the_chosen_candidate_alone_keeps_its_number(tmp_path):
    table = read(write_derivatives(write(tmp_path / "recon", count=1), tmp_path / "out"))
    assert table["candidate"].tolist() == [1, 0, 1]
    assert table["score"].tolist() == [0.5, 0.125, 0.75]
    assert set(table["chosen"].astype(str).str.lower()) == {"true"}


def test_a_control_and_what_is_not_known_are_said(tmp_path):
    recon = write(tmp_path / "recon", count=1, ranked=False, own_responses=False, sampling={})
    text = write_derivatives(recon, tmp_path / "out").read_text().splitlines()
    row = dict(zip(COLUMNS, text[1].split("\t"), strict=True))
    assert row["responses"] == "permuted" and row["candidate"] == "0"
    assert {row[key] for key in ("stimulus", "score", "sampler", "num_steps")} == {"n/a"}


def test_what_cannot_be_named_and_what_is_someone_elses_is_refused(tmp_path):
    with pytest.raises(InputError, match="do not record whose responses"):
        labels_of({"data": {"dataset": "nsd"}})
    with pytest.raises(InputError, match="task is 'a-b'; expected letters"):
        labels_of(SETTINGS, "a-b")
    with pytest.raises(InputError, match="subject is 'a b'"):
        labels_of({"data": {"subject": "a b"}})
    assert labels_of({"data": {"subject": "sub-S3", "dataset": "deep_recon"}}) == (
        "S3",
        "deeprecon",
    )
    recon, mine = write(tmp_path / "recon"), tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(ExistingFileError, match="holds no derivatives of neuroadapter-jax"):
        write_derivatives(recon, mine)
    (mine / "dataset_description.json").write_text('{"GeneratedBy": [{"Name": "fMRIPrep"}]}')
    with pytest.raises(ExistingFileError, match="below the raw dataset's derivatives/"):
        write_derivatives(recon, mine)
    assert {path.name for path in mine.iterdir()} == {"notes.txt", "dataset_description.json"}
