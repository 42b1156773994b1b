"""Scores as data frames, against pandas' own reading of the files."""

import json

import numpy as np
import pandas
import pytest

from neuroadapter_jax.evaluation import load_score_summary, load_scores
from neuroadapter_jax.evaluation.results import PerImage, write_per_image

IDS = np.array([73, 5, 112])


@pytest.fixture
def folder(tmp_path):
    """A scored folder of three images of the simulated subject."""
    columns = {
        "pixcorr": np.array([0.25, -0.125, 0.5]),
        "ssim": np.array([0.5, 0.25, 0.0]),
        "ssim_own_size": np.array([0.75, 0.5, 0.25]),
        "objects_shown": np.array([1, 2, 2]),
        "recall": np.array([np.nan, 1.0, 0.5]),
    }
    write_per_image(tmp_path / "per_image.csv", PerImage(IDS, columns))
    results = {
        "num_images": 3,
        "reconstructions": {},
        "metrics": {
            "pixcorr": {"value": 0.2083, "interval": [-0.125, 0.5]},
            "ssim": {"value": 0.25, "interval": [0.0, 0.5]},
            "distance_swav": {"value": 0.5, "interval": [0.4, 0.6]},
        },
        "ssim": {"value": 0.5, "interval": [0.25, 0.75]},
        "semantic_precision": {"value": None, "interval": None},
        "missing": {},
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path


def test_scores_have_a_row_per_image_and_metric(folder):
    scores = load_scores(folder)
    assert list(scores.columns) == ["image_id", "metric", "value"]
    plain = pandas.read_csv(folder / "per_image.csv", index_col="image_id")
    wide = scores.pivot(index="image_id", columns="metric", values="value")
    pandas.testing.assert_frame_equal(
        wide.loc[IDS, plain.columns], plain, check_names=False, check_dtype=False
    )
    assert len(scores) == 3 * 5


def test_the_summary_has_intervals_and_confuses_no_two_scores(folder):
    for place in (folder, folder / "results.json"):
        summary = load_score_summary(place)
        assert list(summary.index) == ["pixcorr", "ssim", "distance_swav", "ssim_own_size"]
        columns = ["label", "value", "low", "high", "num_images", "less_is_better"]
        assert list(summary.columns) == columns
        assert summary.loc["ssim"].tolist() == ["SSIM", 0.25, 0.0, 0.5, 3, False]
        assert summary.loc["ssim_own_size", "value"] == 0.5
        assert summary["less_is_better"].tolist() == [False, False, True, False]
    means = load_scores(folder).groupby("metric")["value"].mean()
    both = means.index.intersection(summary.index)
    np.testing.assert_allclose(means[both], summary.loc[both, "value"], atol=1e-4)


def test_a_folder_that_was_not_scored_is_named(tmp_path):
    for load in (load_scores, load_score_summary):
        with pytest.raises(FileNotFoundError, match="neuroadapter evaluate"):
            load(tmp_path)
