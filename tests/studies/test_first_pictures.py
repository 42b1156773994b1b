"""What the package ships for the first pictures fits together, and the commands are those."""

import json

import nibabel as nib
import numpy as np
import pytest

from neuroadapter_jax.datasets.belonging import Origin, made_for
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.datasets.prepared.shards import verify_checksums
from neuroadapter_jax.pipeline import NeuroAdapterPipeline, load_views
from neuroadapter_jax.studies import first_pictures as module
from neuroadapter_jax.studies.first_pictures import RESPONSES, first_pictures

SIMULATED = 80  # regions of the shipped adapter


def test_the_shipped_responses_are_the_shipped_adapters():
    records = PreparedDataset(RESPONSES, "test")
    pipeline = NeuroAdapterPipeline.from_pretrained(module.SHIPPED)
    made_for(Origin.of("the model", pipeline.provenance), records.origin)
    assert not verify_checksums(RESPONSES / records.provenance["records"])
    assert pipeline.regions.num_vertices == records.num_vertices
    rois = json.loads((RESPONSES / "rois.json").read_text())
    named = [name for members in rois.values() for name in members]
    assert set(named) <= set(pipeline.regions.names) and len(pipeline.regions) == SIMULATED
    assert {"V1", "Face", "Scene"} <= set(rois)


@pytest.mark.slow
def test_pictures_of_the_shipped_responses(tmp_path):
    from neuroadapter_jax.commands.program import main

    def stage(record, made, command, *arguments, must_have_ended=False):
        less = ["--noeffects", "--num_shown=1"] if command == "interpret" else []
        main([command, *arguments, "--num_steps=2", "--num_images=2", *less])

    picture, page = first_pictures(tmp_path, stage)
    assert picture.is_file() and page.is_file()
    views = load_views(tmp_path / "interpretation")
    assert views.sizes["sample"] == 2 and views.sizes["region"] == SIMULATED
    np.testing.assert_allclose(views["brain_view"].sum("region"), 1, atol=1e-5)
    # The maps hold each region's mean share, at its own vertices and nowhere else.
    regions = NeuroAdapterPipeline.from_pretrained(module.SHIPPED).regions
    share = views["brain_view"].values.mean((0, 1))
    for hemisphere in ("lh", "rh"):
        path = tmp_path / "interpretation" / "maps" / f"{hemisphere}.attention_share.mgh"
        left = nib.load(path).get_fdata().ravel()
        for own, vertices, expected in zip(
            regions.hemispheres, regions.vertices, share, strict=True
        ):
            if own == hemisphere:
                np.testing.assert_allclose(left[vertices], expected, rtol=1e-5)
                left[vertices] = 0
        assert not left.any()
