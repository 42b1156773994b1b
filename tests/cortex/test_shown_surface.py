import numpy as np
import pytest
from nilearn.datasets import load_fsaverage
from scipy.spatial import ConvexHull

from neuroadapter_jax.cortex.shown_surface import ShownSurface

SHOWN = 10_242


@pytest.fixture(scope="module")
def sphere():
    parts = load_fsaverage("fsaverage5")["sphere"].parts
    return [np.asarray(parts[side].coordinates, float) for side in ("left", "right")]


@pytest.mark.parametrize("count", [642, 2_562, SHOWN])
def test_the_first_vertices_are_a_coarser_icosahedron(sphere, count):
    """Of a sphere of triangles cut from an icosahedron 12 vertices have five neighbours."""
    for points in sphere:
        faces = ConvexHull(points[:count]).simplices
        neighbours = np.bincount(faces.ravel(), minlength=count)
        assert len(faces) == 2 * count - 4
        assert sorted(np.unique(neighbours)) == [5, 6] and (neighbours == 5).sum() == 12


@pytest.mark.parametrize("count", [642, 2_562])
def test_of_a_coarser_surface_the_nearest_vertex_is_shown(sphere, count, rng):
    surface = ShownSurface.of((count, count))
    values = rng.standard_normal((2, count))
    shown = surface(values.ravel()).reshape(2, SHOWN)
    np.testing.assert_array_equal(shown[:, :count], values)
    for own, points, found in zip(values, sphere, shown, strict=True):
        for i in rng.choice(SHOWN, 40, replace=False):
            distance = np.linalg.norm(points[:count] - points[i], axis=1)
            assert found[i] == own[distance.argmin()]
    assert f"{count} vertices per hemisphere; each vertex of fsaverage5" in surface.sentence()


@pytest.mark.parametrize(("count", "name"), [(40_962, "fsaverage6"), (163_842, "fsaverage")])
def test_of_a_finer_surface_the_vertices_of_fsaverage5_are_shown(count, name, rng):
    surface = ShownSurface.of_cortex(2 * count)
    left, right = values = rng.standard_normal((2, count))
    expected = np.concatenate([left[:SHOWN], right[:SHOWN]])
    np.testing.assert_array_equal(surface(np.stack([values.ravel()] * 3)), [expected] * 3)
    assert surface.sentence() == (
        f"The data is on {name}, {count} vertices per hemisphere; shown are those 10242 of them "
        "that fsaverage5 has."
    )


def test_fsaverage5_is_shown_as_it_is():
    surface = ShownSurface.of((SHOWN, SHOWN))
    np.testing.assert_array_equal(surface.vertices, np.arange(2 * SHOWN))
    assert surface.sentence() == ""


@pytest.mark.parametrize("sizes", [(SHOWN, 2_562), (227_021, 239_633), (0, 0)])
def test_another_surface_is_refused(sizes):
    assert not ShownSurface.known(sizes)
    words = f"has {sizes[0]} and {sizes[1]} vertices; expected one of FreeSurfer's average surfaces"
    with pytest.raises(ValueError, match=words):
        ShownSurface.of(sizes)
