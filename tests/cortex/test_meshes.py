"""Meshes given as files, against nibabel's writers and what spheres are known to be."""

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_fsaverage
from scipy.spatial import ConvexHull, cKDTree

from neuroadapter_jax.cortex import shown_surface
from neuroadapter_jax.cortex.meshes import Mesh, read_mesh, sulcal_depth_beside, thinned
from neuroadapter_jax.cortex.shown_surface import ShownSurface


def sphere(count, seed):
    points = np.random.default_rng(seed).standard_normal((count, 3))
    points = 100 * points / np.linalg.norm(points, axis=1)[:, None]
    return points, ConvexHull(points).simplices.astype(np.int32)


def save_gifti(path, points, faces):
    arrays = [
        nib.gifti.GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(faces, intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nib.save(nib.GiftiImage(darrays=arrays), path)


@pytest.mark.parametrize("name", ["lh.inflated", "a.surf.gii"])
def test_a_mesh_is_read_as_nibabel_wrote_it(name, tmp_path):
    points, faces = sphere(31, 1)
    write = save_gifti if name.endswith("gii") else nib.freesurfer.write_geometry
    write(tmp_path / name, points, faces)
    found = read_mesh(tmp_path / name)
    np.testing.assert_allclose(found.points, points, rtol=1e-6)
    np.testing.assert_array_equal(found.faces, faces)


def test_what_is_no_mesh_is_named(tmp_path, as_user):
    points, faces = sphere(31, 1)
    nib.freesurfer.write_geometry(tmp_path / "lh.inflated", points, faces)
    whole = (tmp_path / "lh.inflated").read_bytes()
    (tmp_path / "lh.inflated").write_bytes(whole[:-30])
    with pytest.raises(
        ValueError, match=r"lh.inflated: .*it promises 31 vertices and 58 triangles"
    ):
        read_mesh(tmp_path / "lh.inflated")
    save_gifti(tmp_path / "a.surf.gii", points, faces + 1)
    with pytest.raises(ValueError, match="its triangles are not three of its 31 vertices each"):
        read_mesh(tmp_path / "a.surf.gii")
    array = nib.gifti.GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_SHAPE")
    nib.save(nib.GiftiImage(darrays=[array]), tmp_path / "b.shape.gii")
    with pytest.raises(ValueError, match="does not hold one set of points and one of triangles"):
        read_mesh(tmp_path / "b.shape.gii")


def test_the_depth_of_sulci_lies_beside_a_mesh(tmp_path):
    points, faces = sphere(31, 1)
    nib.freesurfer.write_geometry(tmp_path / "lh.inflated", points, faces)
    assert sulcal_depth_beside(tmp_path / "lh.inflated", 31) is None
    depth = np.linspace(-9, 9, 31)
    nib.freesurfer.write_morph_data(tmp_path / "lh.sulc", depth)
    found = sulcal_depth_beside(tmp_path / "lh.inflated", 31)
    assert np.abs(found).max() == 1 and np.corrcoef(found, depth)[0, 1] > 0.99
    with pytest.raises(ValueError, match=r"lh.sulc has 31 vertices, .* beside it 29"):
        sulcal_depth_beside(tmp_path / "lh.inflated", 29)


def test_a_thinned_sphere_is_a_sphere_of_vertices_evenly_spread():
    part = load_fsaverage("fsaverage5")["sphere"].parts["left"]
    whole = Mesh(np.asarray(part.coordinates, float), np.asarray(part.faces, int))
    mesh, taken = thinned(whole, 701)
    assert 500 < len(mesh) <= 701
    np.testing.assert_array_equal(mesh.points, whole.points[taken])
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    edges, sides = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    assert set(sides) == {2}  # closed
    assert len(mesh) - len(edges) + len(mesh.faces) == 2  # Euler, of a sphere
    corners = mesh.points[mesh.faces]
    assert (np.linalg.det(corners) > 0).all() or (np.linalg.det(corners) < 0).all()
    near, _ = cKDTree(mesh.points).query(mesh.points, 2)
    far, _ = cKDTree(mesh.points).query(whole.points)
    assert far.max() <= near[:, 1].min()
    same, every = thinned(mesh, 701)
    assert same is mesh and every.tolist() == list(range(len(mesh)))


def test_a_surface_of_files_shows_the_values_of_its_own_vertices(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(shown_surface, "MOST_SHOWN", 101)
    files, sizes, points = [], (211, 83), []
    for side, count in zip("LR", sizes, strict=True):
        own, faces = sphere(count, count)
        files.append(tmp_path / f"sub_hemi-{side}_inflated.surf.gii")
        save_gifti(files[-1], own, faces)
        points.append(own.astype(np.float32))
    surface = ShownSurface.from_files(files)
    assert surface.sizes == sizes and not surface.flat
    values = rng.standard_normal(sum(sizes))
    left, right = surface.hemispheres
    shown = surface(values)
    assert len(left.mesh) <= 101 and len(right.mesh) == 83
    for mesh, part, all_points, all_values in (
        (left.mesh, shown[: len(left.mesh)], points[0], values[:211]),
        (right.mesh, shown[len(left.mesh) :], points[1], values[211:]),
    ):
        _, place = cKDTree(all_points).query(mesh.points)
        np.testing.assert_array_equal(part, all_values[place])
    assert surface.sentence() == (
        "The data is on 211 and 83 vertices (the meshes sub_hemi-L_inflated.surf.gii and "
        f"sub_hemi-R_inflated.surf.gii); shown are {len(left.mesh)} and 83 of them, evenly spread."
    )
    surface.require_of(sizes, "the model")
    with pytest.raises(
        ValueError, match="have 211 and 83 vertices, the model 83 and 211; give the"
    ):
        surface.require_of((83, 211), "the model")
    with pytest.raises(ValueError, match="expected two files, of the left and of the right"):
        ShownSurface.from_files(files[:1])
