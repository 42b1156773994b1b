"""A folder of reconstructions from its files to its scores, and what is refused."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.evaluation import score_folder as module
from neuroadapter_jax.evaluation.features import TINY_VIT, load_tiny_vit
from neuroadapter_jax.evaluation.protocol import CONVENTIONS, metric_labels, prepare, score_images
from neuroadapter_jax.evaluation.results import (
    PerImage,
    difference_table,
    markdown,
    paired_differences,
    published_rows,
    read_per_image,
    read_results,
    write_per_image,
)
from neuroadapter_jax.evaluation.score_table import score_table
from neuroadapter_jax.evaluation.simulated_folder import check_held_out
from neuroadapter_jax.metrics.identification import set_two_way, two_way
from neuroadapter_jax.metrics.statistics import bootstrap_ratio

COUNT, SIDE = 7, 19
KEYS = ("stimulus", "candidates")
IDS = [3, 5, 11, 40, 41, 60, 999]


class Records(PreparedDataset):
    """A split in memory."""

    def __init__(self, path="records", images=None, ids=IDS):
        self.path, self.split, self.image_ids = path, "test", np.array(ids)
        self.provenance = {"request": {"subject": 1}}
        self.images = make_stimuli() if images is None else images

    def __len__(self):
        return len(self.image_ids)

    def __getitem__(self, i):
        return {"image": self.images[i]}


def make_stimuli():
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8)


def make_reconstructions(noise, num=1):
    rng = np.random.default_rng(int(100 * noise))
    other = rng.integers(0, 256, (COUNT, num, SIDE, SIDE, 3))
    mixed = (1 - noise) * make_stimuli()[:, None] + noise * other
    return np.rint(mixed).astype(np.uint8)


def write(folder, reconstructions, stimuli=None, ids=IDS, **settings):
    """A folder in the layout that `neuroadapter reconstruct` writes."""
    stimuli = make_stimuli() if stimuli is None else stimuli
    (folder / "stimuli").mkdir(parents=True)
    (folder / "images").mkdir()
    entries = []
    for image_id, stimulus, candidates in zip(ids, stimuli, reconstructions, strict=True):
        names = [f"images/{image_id}_{j}.png" for j in range(len(candidates))]
        stimulus_name = f"stimuli/{image_id}.png"
        entries.append({"image_id": image_id, KEYS[0]: stimulus_name, KEYS[1]: names})
        for name, image in zip([stimulus_name, *names], [stimulus, *candidates], strict=True):
            Image.fromarray(image).save(folder / name)
    (folder / "index.json").write_text(json.dumps({"settings": settings, "images": entries}))
    return folder


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Two scored folders: a is worse than b. Published networks have no weights here."""
    parent = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(parent / "cache"))
        folders = {
            name: write(parent / name, make_reconstructions(noise, num=3), own_responses=True)
            for name, noise in {"a": 0.8, "b": 0.6}.items()
        }
        results = {
            name: module.score_folder(
                folder, weights=parent, set_level=True, convention="neuroadapter", progress=False
            )
            for name, folder in folders.items()
        }
    return folders, results


def test_the_three_files_say_the_scores(scored):
    folders, results = scored
    found = json.loads((folders["a"] / "results.json").read_text())
    assert found == results["a"]
    assert found["num_images"] == COUNT
    assert found["convention"] == {
        "name": "neuroadapter",
        "first_side": None,
        "antialias": True,
        "eight_bit": ["alexnet", "inception", "effnet"],
        "orientation": "rows",
    }
    scores = score_images(
        make_stimuli(),
        make_reconstructions(0.8, 3)[:, 0],
        convention="neuroadapter",
        networks=(),
        progress=False,
    )
    with open(folders["a"] / "per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["image_id"]) for row in rows] == IDS
    for name in ("pixcorr", "ssim"):
        column = np.array([float(row[name]) for row in rows])
        np.testing.assert_array_equal(column, scores.per_image[name])
        assert found["metrics"][name]["value"] == pytest.approx(column.mean())
    assert set(found["metrics"]) | set(found["missing"]) == set(metric_labels())
    table = (folders["a"] / "results.md").read_text()
    for name, label in metric_labels().items():
        line = next(x for x in table.splitlines() if x.startswith(f"| {label} |"))
        assert ("missing: " in line) == (name in found["missing"])
    assert not list(folders["a"].glob("*.partial"))


def test_sets_of_candidates_are_scored(scored):
    _, results = scored
    assert set(results["a"]["set_level"]) == {
        "two_way_tiny_vit_block1",
        "two_way_tiny_vit_pooled",
    }
    extract = load_tiny_vit()
    true, *sets = (
        extract(prepare(x, TINY_VIT, CONVENTIONS["neuroadapter"]))["pooled"]
        for x in (make_stimuli(), *np.moveaxis(make_reconstructions(0.8, 3), 1, 0))
    )
    expected = set_two_way(true, np.stack(sets, axis=1), "rows").mean()
    found = results["a"]["set_level"]["two_way_tiny_vit_pooled"]["value"]
    assert found == pytest.approx(expected)
    assert results["a"]["metrics"]["two_way_tiny_vit_pooled"]["value"] == pytest.approx(
        two_way(true, sets[0], "rows").mean()
    )


def test_pairs_are_compared_image_by_image(scored):
    folders, _ = scored
    found = paired_differences(folders["a"], folders["b"], seed=3)
    tables = [read_per_image(folders[name] / "per_image.csv") for name in "ab"]
    difference = tables[1].columns["ssim"] - tables[0].columns["ssim"]
    entry = found["scores"]["ssim"]
    assert entry["difference"]["value"] == pytest.approx(difference.mean())
    assert entry["difference"]["interval"] == pytest.approx(
        bootstrap_ratio(difference, np.ones(COUNT), 3)["interval"]
    )
    assert entry["b"] > entry["a"] and entry["difference"]["interval"][0] > 0
    assert found["num_images"] == COUNT and found["one_sided"] == []
    line = next(x for x in difference_table(found).splitlines() if x.startswith("| SSIM |"))
    assert f"{difference.mean():+.4f}" in line
    back = paired_differences(folders["b"], folders["a"], seed=3)["scores"]["ssim"]["difference"]
    assert back["value"] == pytest.approx(-difference.mean())


def table_of(folder, columns, ids=IDS, convention="mindeye"):
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"convention": {"name": convention}}))
    write_per_image(folder / "per_image.csv", PerImage(np.array(ids), columns))
    return folder


def test_a_ratio_of_sums_keeps_its_denominator(tmp_path):
    """Recall is hits over objects, not the mean of recalls per image."""
    shown = np.array([1, 3, 2, 2, 1, 3, 2])
    hits = {"a": np.array([0, 3, 1, 0, 1, 1, 2]), "b": np.array([1, 3, 2, 1, 0, 3, 2])}
    folders = [
        table_of(
            tmp_path / name, {"objects_shown": shown, "objects_read_rightly": x, "pixcorr": x / 7}
        )
        for name, x in hits.items()
    ]
    found = paired_differences(*folders)["scores"]
    assert set(found) == {"pixcorr", "semantic_recall"}
    assert found["semantic_recall"]["a"] == pytest.approx(8 / 14)
    assert found["semantic_recall"]["difference"]["value"] == pytest.approx(4 / 14)
    other = table_of(
        tmp_path / "c", {"objects_shown": shown + 1, "objects_read_rightly": hits["a"]}
    )
    with pytest.raises(ValueError, match="disagree on how many objects images show"):
        paired_differences(folders[0], other)


def test_folders_of_version_0_1_0_are_compared(tmp_path):
    shown, hits = np.array([1, 3, 2, 2, 1, 3, 2]), np.array([0, 3, 1, 0, 1, 1, 2])
    new = table_of(tmp_path / "new", {"objects_shown": shown, "objects_identified": hits})
    old = table_of(tmp_path / "old", {"things_shown": shown, "things_identified": hits})
    found = paired_differences(old, new)
    assert set(found["scores"]) == {"object_identity"} and found["one_sided"] == []
    entry = {"value": 0.5, "interval": [0.25, 0.75]}
    results = {
        "num_things": 14,
        "thing_identification": entry,
        "linear_readout": {"thing_identification": entry},
        "drawn": {"model": {"area": "kept as it was"}},
        "convention": {"name": "mindeye"},
    }
    (tmp_path / "old" / "results.json").write_text(json.dumps(results))
    read = read_results(tmp_path / "old")
    assert read.keys() == {
        "num_objects",
        "object_identity",
        "linear_readout",
        "reconstructions",
        "convention",
    }
    assert read["linear_readout"] == {"object_identity": entry}
    assert read["reconstructions"] == results["drawn"]
    label = "Object identity: nearest of 48 in place (chance 2 %)"
    table = {name: cells for name, *cells in score_table({"old": read})}
    assert table[label] == ["50.0% [25.0%, 75.0%]"]


def test_unlike_folders_are_not_compared(tmp_path):
    values = {"pixcorr": np.linspace(0, 1, COUNT)}
    first = table_of(tmp_path / "first", values)
    order = table_of(tmp_path / "order", values, ids=[*IDS[1:], IDS[0]])
    fewer = table_of(tmp_path / "fewer", {"pixcorr": np.arange(3) / 3}, ids=IDS[:3])
    convention = table_of(tmp_path / "convention", values, convention="neuroadapter")
    with pytest.raises(ValueError, match=r"holds another order than .* \(7 and 7 rows"):
        paired_differences(first, order)
    with pytest.raises(ValueError, match=r"holds other images than .* \(3 and 7 rows"):
        paired_differences(first, fewer)
    with pytest.raises(ValueError, match=r"by the convention mindeye, .* by neuroadapter; score"):
        paired_differences(first, convention)
    with pytest.raises(FileNotFoundError, match=r"score the folder first: neuroadapter evaluate"):
        paired_differences(first, tmp_path)
    (first / "per_image.csv").write_text("image_id,pixcorr\n3\n")
    with pytest.raises(ValueError, match=r"is no table of `neuroadapter evaluate`"):
        paired_differences(first, order)


def test_published_rows_of_different_test_sets_never_share_a_table(scored):
    rows = published_rows()
    assert {row["num_images"] for row in rows} == {515, 982, 1000}
    assert all(row["source"] and row["subjects"] for row in rows)
    paper = next(r for r in rows if r["method"] == "NeuroAdapter" and r["subjects"] == "1, 2, 5, 7")
    assert paper["num_images"] == 515 and paper["two_way_clip"] == pytest.approx(0.911)
    assert paper["distance_swav"] == 0.405 and paper["pixcorr"] == 0.124
    for row in rows:
        numbers = {x: v for x, v in row.items() if x in metric_labels() and v is not None}
        assert numbers and all(0 < v < 1 for v in numbers.values())

    results = scored[1]["a"] | {"num_images": 515}
    ours, others = (
        markdown(results, title="t", comparable=comparable).split("### ")[1:]
        for comparable in (True, False)
    )
    for section, other in zip(ours, others, strict=True):
        count = section.split()[0]
        cells = [[x.strip() for x in y.split("|")] for y in section.splitlines() if y[:1] == "|"]
        assert {cell[3] for cell in cells[2:]} == {count}
        assert ("**these**" in section) == (count == "515")
        assert "**these**" not in other
    assert "| **these** |  | 515 | " + f"{results['metrics']['pixcorr']['value']:.3f}" in ours[0]


def test_a_folder_shows_exactly_the_records(tmp_path, as_user):
    reconstructions, stimuli = make_reconstructions(0.5), make_stimuli()
    folder = write(tmp_path / "whole", reconstructions)
    module.check_records(folder, module.load_reconstructions(folder), Records())
    swapped, other_size = stimuli.copy(), np.pad(stimuli, ((0, 0), (0, 1), (0, 1), (0, 0)))
    swapped[[1, 2]] = swapped[[2, 1]]
    backwards = np.s_[::-1]
    wrong = {
        "in another order; list them in ascending": write(
            tmp_path / "order", reconstructions[backwards], stimuli[backwards], IDS[backwards]
        ),
        "holds 6 images, split 'test' of records 7: image 11 is missing": write(
            tmp_path / "fewer",
            np.delete(reconstructions, 2, 0),
            np.delete(stimuli, 2, 0),
            IDS[:2] + IDS[3:],
        ),
        "image 11 is missing": write(
            tmp_path / "other", reconstructions, ids=[*IDS[:2], 12, *IDS[3:]]
        ),
        "the stimulus of image 5 is not the one in split 'test'": write(
            tmp_path / "swapped", reconstructions, swapped
        ),
        "19 x 19 pixels, split 'test' of records of 20 x 20": folder,
    }
    for words, place in wrong.items():
        records = Records(images=other_size) if place is folder else Records()
        with pytest.raises(ValueError, match=words):
            module.check_records(place, module.load_reconstructions(place), records)
    with pytest.raises(ValueError, match="image 999 is too many"):
        module.check_records(
            folder, module.load_reconstructions(folder), Records(ids=IDS[:6], images=stimuli[:6])
        )


def test_wrong_requests_are_refused_before_anything_is_written(tmp_path):
    folder = write(tmp_path / "drawn", make_reconstructions(0.5), own_responses=False)
    before = sorted(folder.iterdir())
    for words, options in {
        "--root needs --prepared": {"root": "nsd"},
        "--model and --permuted need --root": {"permuted": str(folder)},
        "holds one candidate per stimulus; set-level": {"set_level": True},
        "no convention 'brain-diffuser'; choose 'mindeye' or": {"convention": "brain-diffuser"},
    }.items():
        with pytest.raises(ValueError, match=words):
            module.score_folder(folder, progress=False, **options)
    with pytest.raises(FileNotFoundError, match=r"listed in index\.json but not found"):
        next((folder / "images").iterdir()).unlink()
        module.score_folder(folder, progress=False)
    assert sorted(folder.iterdir()) == before


def test_unsuited_images_are_refused(as_user):
    stimuli, reconstructions = make_stimuli(), make_reconstructions(0.5)[:, 0]
    for words, arrays in {
        r"one shape \[b, y, x, 3\], found \(7, 19, 19, 3\) and \(6": (stimuli, reconstructions[:6]),
        "square uint8 images, found uint8 of 19 x 17": (
            stimuli[:, :, :17],
            reconstructions[:, :, :17],
        ),
        "square uint8 images, found float64": (stimuli / 255, reconstructions / 255),
        "at least 2 images to tell apart, found 1": (stimuli[:1], reconstructions[:1]),
    }.items():
        with pytest.raises(ValueError, match=words):
            score_images(*arrays, networks=(), progress=False)
    with pytest.raises(ValueError, match=r"Candidates must be \[b, s, y, x, 3\]"):
        score_images(
            stimuli, reconstructions, candidates=reconstructions, networks=(), progress=False
        )


def test_no_image_is_scored_that_the_readout_was_fitted_on():
    check_held_out(np.array([2, 4, 6]), np.array([1, 3, 5]))
    with pytest.raises(ValueError, match=r"2 of 3 images to be scored are training images, .* 4;"):
        check_held_out(np.array([2, 4, 6]), np.array([4, 5, 6]))
