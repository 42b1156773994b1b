import csv

import numpy as np
import pytest

from neuroadapter_jax.cortex.parcellation import BOTH, Parcellation
from neuroadapter_jax.ibbi.roi import (
    assign_by_name,
    assign_regions,
    by_hemisphere,
    level_counts,
    overlap_table,
    write_assignment,
)

LH, RH = 11, 7
SETS = ([0, 1, 2], [3, 4], [0, 1, 5], [2, 3])
REGIONS = Parcellation(
    ("a", "b", "a", "c"),
    ("lh", "lh", "rh", "rh"),
    tuple(np.array(v, np.int32) for v in SETS),
    (LH, RH),
)


def mask(*vertices):
    found = np.zeros(LH + RH, bool)
    found[list(vertices)] = True
    return found


ROIS = {"V1": mask(0, 1, 3, LH), "FFA": mask(2, 4, LH + 1, LH + 5, LH + 6), "none": mask(9)}


def test_a_region_belongs_where_more_than_the_threshold_of_it_lies():
    found = assign_regions(REGIONS, ROIS)
    overlap = [[2 / 3, 1 / 2, 1 / 3, 0], [1 / 3, 1 / 2, 2 / 3, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found.overlap, overlap)
    # Exactly half is not more than half.
    assert found.members.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(found.weights, found.members.astype(np.float32))
    lower = assign_regions(REGIONS, ROIS, 0.4)
    assert lower.members[:, 1].tolist() == [True, False, False]
    largest = assign_regions(REGIONS, ROIS, 0.0)
    assert largest.members.tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    both = assign_regions(REGIONS, ROIS, 0.3, exclusive=False)
    assert both.members[:2, :3].all()
    np.testing.assert_allclose(both.weights[0], [1 / 3, 1 / 3, 1 / 3, 0])
    assert found.without_regions() == [
        "none: none of the 4 regions lies in it by more than the threshold (ROI of 1 vertices, "
        "highest overlap 0.00); its view is NaN."
    ]


def test_halves_of_rois():
    halves = by_hemisphere(ROIS, (LH, RH))
    assert list(halves)[:2] == ["lh.V1", "rh.V1"]
    np.testing.assert_array_equal(np.flatnonzero(halves["lh.FFA"]), [2, 4])
    np.testing.assert_array_equal(np.flatnonzero(halves["rh.FFA"]), [LH + 1, LH + 5, LH + 6])


def test_a_list_of_names():
    found = assign_by_name(REGIONS, {"x": ["a"], "y": ["rh.a", "b"]})
    assert found.members.tolist() == [[1, 0, 1, 0], [0, 1, 1, 0]]
    assert found.vertices.tolist() == [6, 5]
    with pytest.raises(ValueError, match=r"'x' names region 'lh\.c', which is none of"):
        assign_by_name(REGIONS, {"x": ["lh.c"]})


def test_regions_in_voxels_have_their_name_alone():
    sets = tuple(np.array(v, np.int32) for v in ([0, 1], [2], [3, 4, 5]))
    voxels = Parcellation(("LHPPA", "RHPPA", "V1"), (BOTH,) * 3, sets, (6, 0))
    found = assign_by_name(voxels, {"places": ["LHPPA", "RHPPA"], "early": ["both.V1"]})
    assert found.members.tolist() == [[1, 1, 0], [0, 0, 1]]


def test_the_table(tmp_path):
    write_assignment(tmp_path / "a.csv", REGIONS, assign_regions(REGIONS, ROIS))
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["assigned"] for row in rows] == ["V1", "", "FFA", ""]
    assert rows[1] == {
        "region": "b",
        "hemisphere": "lh",
        "vertices": "2",
        "best_roi": "V1",
        "overlap": "0.5000",
        "assigned": "",
    }
    assert rows[3]["best_roi"] == ""


def test_wrong_rois_are_refused():
    with pytest.raises(ValueError, match=r"'V1' has a mask of shape \(17,\), .* of 18 vertices"):
        assign_regions(REGIONS, {"V1": np.ones(17, bool)})
    with pytest.raises(ValueError, match=r"threshold is 1\.0"):
        assign_regions(REGIONS, ROIS, 1.0)
    with pytest.raises(ValueError, match="no ROIs"):
        assign_regions(REGIONS, {})


def test_regions_are_counted_by_level_as_the_paper_counts_them():
    """Eleven regions of ten vertices: so many of V1 in the one, of a face ROI in the other."""
    inside = {"V1": [10, 6, 5, 2, 0, 0, 0, 0, 0, 0, 0], "Face": [0, 4, 5, 2, 6, 7, 8, 9, 0, 0, 0]}
    inside["streams"] = [10] * 11  # no level
    regions = Parcellation(
        tuple(f"r{i}" for i in range(11)),
        ("lh",) * 11,
        tuple(np.arange(10 * i, 10 * i + 10, dtype=np.int32) for i in range(11)),
        (110, 13),
    )
    masks = {}
    for name, counts in inside.items():
        masks[name] = np.zeros(123, bool)
        for i, count in enumerate(counts):
            # From the region's start, or, so that ROIs stay apart, from its end.
            masks[name][10 * i + (10 - count if name == "Face" else 0) :][:count] = True
    without = {name: masks[name] for name in ("V1", "Face")}
    half = level_counts(assign_regions(regions, without, 0.5))
    assert half == {"low-level": 2, "high-level": 4, "labelled": 6}
    # More than a tenth: r2 and r3 are equally of both, and go to the first.
    assert level_counts(assign_regions(regions, without, 0.1)) == {
        "low-level": 4,
        "high-level": 4,
        "labelled": 8,
    }
    assert level_counts(assign_regions(regions, masks, 0.5, exclusive=False)) == half

    lines = overlap_table(regions, without, (0.5, 0.75)).splitlines()
    assert lines[0].split() == [
        "threshold",
        "low-level",
        "high-level",
        "labelled",
        "of",
        "V1",
        "Face",
    ]
    assert lines[1].split() == [">", "0.5", "2", "4", "6", "11", "2", "4"]
    assert lines[2].split() == [">", "0.75", "1", "2", "3", "11", "1", "2"]
    assert lines[3].split() == ["paper", "50", "53", "103", "200"]
    assert "appendix P; subject 1, p = 200" in lines[4]
