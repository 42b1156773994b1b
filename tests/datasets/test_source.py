"""The contract of a dataset, by the example that the documentation shows."""

import importlib.util
import pathlib
import tempfile

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import scipy.stats

from neuroadapter_jax.datasets.prepared.images import ImageEncoder
from neuroadapter_jax.datasets.prepared.prepare import PreparationSettings, prepare_source
from neuroadapter_jax.datasets.prepared.records import PreparedDataset, describe
from neuroadapter_jax.datasets.source import Source
from neuroadapter_jax.errors import InputError

pytest.importorskip("tensorflow")
ROOT = pathlib.Path(__file__).resolve().parents[2]
LH, RH = 5, 3


@pytest.fixture(autouse=True)
def temporary_files(tmp_path_factory, monkeypatch):
    """TFDS leaves an empty temporary folder behind per builder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


@pytest.fixture
def own(tmp_path, rng):
    """Two runs of 7 and 4 trials; the stimulus "ghost" has no image."""
    folder = tmp_path / "own"
    (folder / "images").mkdir(parents=True)
    rows = [
        ("cat", "train", 1), ("dog", "train", 1), ("cat", "train", 1), ("owl", "validation", 1),
        ("cat", "dream", 1), ("ghost", "dream", 1), ("dog", "train", 1), ("dog", "train", 2),
        ("cat", "dream", 2), ("cat", "train", 2), ("owl", "validation", 2),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["stimulus", "split", "run"])
    table.to_csv(folder / "trials.csv", index=False)
    betas = rng.normal(3, 2, (11, LH + RH)).astype(np.float32)
    np.save(folder / "lh.npy", betas[:, :LH])
    np.save(folder / "rh.npy", betas[:, LH:])
    for i, name in enumerate(("cat", "dog", "owl")):
        PIL.Image.fromarray(np.full((19, 13, 3), 50 + i, np.uint8)).save(
            folder / "images" / f"{name}.png"
        )
    spec = importlib.util.spec_from_file_location("own", ROOT / "examples" / "own_dataset.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return folder, table, betas, module.OwnDataset


def moments(images):
    mean = np.repeat(images[:, ::8, ::8, :1], 4, axis=-1) / 255
    return mean.astype(np.float32), np.ones(mean.shape, np.float32)


def prepare(source, folder):
    settings = PreparationSettings(image_size=16, batch_size=2, progress=False)
    return prepare_source(source, folder, ImageEncoder(moments, "abc"), settings)


def test_the_documented_example(own, tmp_path):
    folder, _, betas, OwnDataset = own
    source = OwnDataset(folder)
    assert isinstance(source, Source)
    elsewhere = tmp_path / "mean.txt"
    elsewhere.write_text("1")
    source.files.append(elsewhere)  # a file need not lie below the root
    prepared = prepare(source, tmp_path / "prepared")
    z = np.concatenate([scipy.stats.zscore(betas[:7]), scipy.stats.zscore(betas[7:])])
    expected = {
        "train": {"cat": [0, 2, 9], "dog": [1, 6, 7]},
        "validation": {"owl": [3, 10]},
        "dream": {"cat": [4, 8], "ghost": [5]},
    }
    for split, stimuli in expected.items():
        dataset = PreparedDataset(prepared, split)
        assert dataset.names == tuple(stimuli)
        assert dataset.has_image.tolist() == [name != "ghost" for name in stimuli]
        for i, (name, rows) in enumerate(stimuli.items()):
            record = dataset[i]
            np.testing.assert_allclose(record["betas"], z[rows], atol=2e-3)
            value = {"cat": 50, "dog": 51, "owl": 52, "ghost": 0}[name]
            np.testing.assert_array_equal(record["image"], np.full((16, 16, 3), value))
    assert {path.name for path in prepared.iterdir()} >= {"own", "stimuli.npz"}
    assert PreparedDataset(prepared, "train").provenance["request"]["dataset"] == "own"
    assert describe(prepared)[1:] == [
        "  dream: 2 stimuli, 1 of them without an image",
        "  train: 2 stimuli",
        "  validation: 1 stimuli",
    ]
    elsewhere.write_text("2")
    with pytest.raises(ValueError, match=r"source is .* there, .* here"):
        prepare(source, prepared)
    PreparedDataset(prepared, "train").require_images()
    with pytest.raises(ValueError, match=r"1 of 2 stimuli of split 'dream' .* ghost"):
        PreparedDataset(prepared, "dream").require_images()
    with pytest.raises(ValueError, match="no split 'test'; choose one of dream, train, valid"):
        PreparedDataset(prepared, "test")


def test_the_folders_of_the_checkout_offer_the_packages_writer():
    import data.bold5000
    import data.deeprecon
    import data.mosaic
    import data.nsd
    import data.nsd_imagery
    from neuroadapter_jax.datasets import tfds

    for folder in (data.nsd, data.bold5000, data.deeprecon, data.mosaic, data.nsd_imagery):
        assert folder.write_records is tfds.write_records


def test_a_source_that_contradicts_itself(own, tmp_path):
    folder, _, _, OwnDataset = own

    def broken(**members):
        return type("Broken", (OwnDataset,), members)(folder)

    source = broken()
    source.blocks = (2,)
    with pytest.raises(ValueError, match=r"announced 11 trials of 8 .* hold \[\(4, 8\)\]"):
        prepare(source, tmp_path / "p")
    with pytest.raises(ValueError, match=r"no trials in the splits \['train'\]"):
        prepare(broken(splits=lambda self: {"train": np.zeros(0, np.int64)}), tmp_path / "q")
    read_block = OwnDataset.read_block
    for value, found in ((70000, "70000"), (np.nan, "nan")):

        def wrong(self, run, value=value):
            block = read_block(self, run)
            block.betas[2, 1] = value
            return block

        with pytest.raises(ValueError, match=f"{found} in block 1, which float16 cannot hold"):
            prepare(broken(read_block=wrong), tmp_path / found)
        assert not (tmp_path / found).exists()


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"ncsnr": lambda self: np.zeros(7)}, r"ncsnr of own has shape \(7,\); .* its 8 features"),
        (
            {"trial_image_ids": lambda self: np.arange(11) - 1},
            "trial_image_ids of own gave int64 of shape .* with -1; expected the stimulus of each",
        ),
        (
            {"trial_image_ids": lambda self: np.ones(11)},
            r"gave float64 .* expected the stimulus of",
        ),
        (
            {"splits": lambda self: {"train": np.array([0, 11])}},
            "names trial 11 in 'train', and 11 trials .* expected positions from 0 to 10",
        ),
        ({"splits": lambda self: {"train": np.array([3, 3])}}, "names a trial twice in 'train'"),
        (
            {"splits": lambda self: {"train": np.ones(11, bool)}},
            "gave bool of shape .* for 'train'",
        ),
        ({"images": lambda self, ids: []}, "gave 0 images for 4 stimuli; expected one for each"),
        (
            {"images": lambda self, ids: [np.zeros((19, 13, 4), np.uint8)] * len(ids)},
            r"gave uint8 of shape \(19, 13, 4\) for stimulus 0; expected uint8 \[y, x, 3\]",
        ),
    ],
)
def test_a_class_of_ones_own_that_errs_is_told_where(own, tmp_path, members, sentence):
    folder, _, _, OwnDataset = own
    source = type("Broken", (OwnDataset,), members)(folder)
    with pytest.raises(InputError, match=sentence):
        prepare(source, tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()
