"""Interpretations end with a page, whatever surface the regions are on."""

import base64
import json
import re

import nibabel as nib
import numpy as np
import pytest
import tiny_prepared
from nilearn.datasets import load_fsaverage
from scipy.spatial import ConvexHull
from tiny_pipeline import LH, RH, make_pipeline

from docs.pictures.on_fsaverage import carry_up, cut_finer, nearest_vertices
from neuroadapter_jax.cortex.meshes import Mesh
from neuroadapter_jax.cortex.packing import pack
from neuroadapter_jax.cortex.shown_surface import ShownSurface
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.ibbi.roi import assign_by_name
from neuroadapter_jax.pipeline import InterpretationSettings
from neuroadapter_jax.studies.interpretation import interpret


@pytest.fixture(scope="module")
def pipeline(random_backbone):
    return make_pipeline(random_backbone)


def sphere(count):
    points = np.random.default_rng(count).standard_normal((count, 3))
    points /= np.linalg.norm(points, axis=1)[:, None]
    return Mesh(points, ConvexHull(points).simplices)


@pytest.mark.slow
def test_a_model_on_a_subjects_own_surface_gets_its_page_and_figures(pipeline, tmp_path):
    tiny_prepared.write_prepared(tmp_path / "prepared", tmp_path / "root")
    files = (tmp_path / "lh.inflated", tmp_path / "rh.inflated")
    for file, count in zip(files, (LH, RH), strict=True):
        nib.freesurfer.write_geometry(file, sphere(count).points, sphere(count).faces)
    rois = assign_by_name(pipeline.regions, {"left": ["a", "b"], "d": ["rh.d"]})
    masks = {"left": np.arange(LH + RH) < 9, "d": np.arange(LH + RH) == LH + 4}
    settings = InterpretationSettings(
        Sampling(num_steps=2), num_images=2, num_shown=1, group_size=2, effects=False
    )
    for surface in (ShownSurface.from_files(files), None):
        interpret(
            pipeline,
            PreparedDataset(tmp_path / "prepared", "test"),
            tmp_path / "out",
            rois,
            masks,
            settings,
            surface=surface,
        )
        page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        data = json.loads(re.search(r'type="application/json">(.*)</script>\n<script>', page)[1])
        if surface is None:
            assert data["mesh"] == [] and f"a surface of {LH} and {RH} vertices" in data["notes"]
            continue
        found = [np.frombuffer(base64.b64decode(h["region"]), "<i2") for h in data["mesh"]]
        every = np.full(LH + RH, -1)
        for i in range(len(pipeline.regions)):
            every[pipeline.regions.cortex_indices(i)] = i
        np.testing.assert_array_equal(np.concatenate(found), every)
        figures = {path.name for path in (tmp_path / "out" / "figures").glob("*.png")}
        assert {"cortex.png", "cortex_steps.png", "shares.png"} <= figures


def test_a_model_carried_up_makes_the_same_tokens(pipeline):
    coarse = [sphere(LH), sphere(RH)]
    nearest = tuple(nearest_vertices(m.points, cut_finer(m).points) for m in coarse)
    fine = carry_up(pipeline, nearest)
    assert fine.regions.num_vertices == tuple(map(len, nearest))
    assert min(fine.regions.num_vertices) > 3 * LH
    fmri = np.random.default_rng(1).standard_normal((5, LH + RH)).astype(np.float32)
    up = fmri[:, np.concatenate([nearest[0], nearest[1] + LH])]
    expected = pipeline.adapter.tokens(pack(fmri, pipeline.packing))
    np.testing.assert_allclose(fine.adapter.tokens(pack(up, fine.packing)), expected, atol=1e-4)


def test_triangles_cut_into_four_make_the_next_of_freesurfers_spheres():
    """Of 4 ** k - 1 thirds of an icosahedron's 30 edges: 10 * 4 ** k + 2 vertices."""
    part = load_fsaverage("fsaverage5")["sphere"].parts["left"]
    coarse = Mesh(np.asarray(part.coordinates, float), np.asarray(part.faces))
    fine = cut_finer(coarse)
    assert (len(fine), len(fine.faces)) == (40_962, 81_920)
    np.testing.assert_array_equal(fine.points[: len(coarse)], coarse.points)
    np.testing.assert_allclose(np.linalg.norm(fine.points, axis=1), 100, rtol=1e-4)
    edges = np.linalg.norm(fine.points[fine.faces[:, 0]] - fine.points[fine.faces[:, 1]], axis=1)
    assert edges.max() < 2.5  # of a radius of 100: no triangle spans the sphere
