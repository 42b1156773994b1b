"""Carry a simulated subject and its model from fsaverage5 up to fsaverage, by nearest vertex.

    python docs/pictures/on_fsaverage.py runs/simulated/prepared runs/fsaverage
    neuroadapter interpret --model runs/fsaverage/model --prepared runs/fsaverage/prepared \
        --rois runs/fsaverage/rois.json \
        --num_steps 19 --sampler dpmsolver++ --out runs/fsaverage/views

Every vertex of the finer mesh has the response of the nearest vertex of the coarser one, so the
model carried up makes the same tokens of it: docs/images/interpretation_fsaverage.png is the page.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from flax import nnx
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from neuroadapter_jax import NeuroAdapterPipeline
from neuroadapter_jax.cortex.meshes import Mesh
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.prepared.records import PreparedDataset, encode_record
from neuroadapter_jax.datasets.prepared.shards import write_shard
from neuroadapter_jax.studies.first_pictures import RESPONSES, SHIPPED

COUNT = 20


def cut_finer(mesh: Mesh) -> Mesh:
    """A sphere whose triangles are cut into four each; its own vertices come first, as they are."""
    edges = np.concatenate([mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]], mesh.faces[:, [0, 1]]])
    edges, place = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
    middle = mesh.points[edges].mean(1)
    middle *= np.linalg.norm(mesh.points[0]) / np.linalg.norm(middle, axis=1, keepdims=True)
    a, b, c = mesh.faces.T
    x, y, z = len(mesh) + place.reshape(3, -1)
    faces = np.concatenate([np.stack(f, 1) for f in ((a, z, y), (z, b, x), (y, x, c), (x, y, z))])
    return Mesh(np.concatenate([mesh.points, middle]), faces)


def nearest_vertices(
    coarse: Float[np.ndarray, "m 3"], fine: Float[np.ndarray, "n 3"]
) -> Int[np.ndarray, " n"]:
    """For each vertex of a fine sphere the nearest of a coarse one."""
    return np.asarray(cKDTree(coarse).query(fine)[1])


def carry_up(
    pipeline: NeuroAdapterPipeline, nearest: tuple[np.ndarray, np.ndarray]
) -> NeuroAdapterPipeline:
    """A pipeline over the fine mesh that makes the same tokens of carried-up responses.

    Args:
        pipeline: over the coarse mesh.
        nearest: for each fine vertex of the left and of the right hemisphere, the coarse one.
    """
    old, sides = pipeline.regions, dict(zip(("lh", "rh"), nearest, strict=True))
    vertices, parents, counts = [], [], []
    for side, own in zip(old.hemispheres, old.vertices, strict=True):
        fine = np.flatnonzero(np.isin(sides[side], own)).astype(np.int32)
        vertices.append(fine)
        parents.append(np.searchsorted(own, sides[side][fine]))
        counts.append(np.bincount(sides[side], minlength=own.max() + 1)[sides[side][fine]])
    sizes = (len(nearest[0]), len(nearest[1]))
    regions = Parcellation(old.names, old.hemispheres, tuple(vertices), sizes)
    weights = np.asarray(pipeline.adapter.region_projection.weights[...])
    wide = np.zeros((len(regions), max(map(len, vertices)), weights.shape[-1]), np.float32)
    for p, (parent, count) in enumerate(zip(parents, counts, strict=True)):
        wide[p, : len(parent)] = weights[p, parent] / count[:, None]
    adapter = nnx.clone(pipeline.adapter)
    adapter.config = type(adapter.config)(
        **vars(pipeline.adapter.config) | {"max_vertices": wide.shape[1]}
    )
    adapter.region_projection.weights = nnx.Param(wide)
    provenance = json.loads(json.dumps(pipeline.provenance))
    provenance.setdefault("data", {})["space"] = "fsaverage"
    return NeuroAdapterPipeline(
        adapter,
        pipeline.backbone,
        regions,
        backbone_name=pipeline.backbone_name,
        sampling=pipeline.sampling,
        provenance=provenance,
    )


def main(prepared: str, out: str) -> None:
    """Write a prepared folder, a model and the ROIs."""
    from nilearn.datasets import load_fsaverage

    spheres = load_fsaverage("fsaverage5")["sphere"].parts
    nearest = []
    for side in ("left", "right"):
        coarse = Mesh(np.asarray(spheres[side].coordinates, float), np.asarray(spheres[side].faces))
        nearest.append(nearest_vertices(coarse.points, cut_finer(cut_finer(coarse)).points))
    left, right = nearest
    cortex = np.concatenate([left, right + 1 + left.max()])

    folder = Path(out)
    carry_up(NeuroAdapterPipeline.from_pretrained(SHIPPED), (left, right)).save_pretrained(
        folder / "model"
    )
    shutil.copy(RESPONSES / "rois.json", folder)
    dataset, new = PreparedDataset(prepared, "test"), folder / "prepared"
    (new / "records").mkdir(parents=True)
    records = [dataset[i] for i in range(COUNT)]
    for record in records:
        record["betas"] = np.asarray(record["betas"])[:, cortex]
    write_shard(
        new / "records" / "nsd-test.array_record-00000-of-00001",
        [encode_record(record) for record in records],
    )
    np.savez(new / "index.npz", test=dataset.image_ids[:COUNT])
    sizes = np.array([len(left), len(right)])
    np.savez(new / "cortex.npz", ncsnr=dataset.ncsnr[cortex], num_vertices=sizes)
    made = dict(dataset.provenance) | {"records": "records", "checks": []}
    made["request"] = dict(made["request"]) | {"space": "fsaverage"}
    made["shapes"] = dict(made["shapes"]) | {"betas": [-1, len(cortex)]}
    (new / "provenance.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main(*sys.argv[1:])
