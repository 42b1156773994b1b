import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuroadapter_jax.cortex.label_files import read_parcellation, write_annot
from neuroadapter_jax.cortex.packing import compact, make_packing, pack, stack_packings, unpack


@pytest.fixture(params=[0, 1])
def regions(request, tmp_path):
    """Regions of a mesh of 9 + 9 vertices whose labels are sparse and shuffled."""
    rng = np.random.default_rng(request.param)
    for h in ("lh", "rh"):
        labels = rng.permutation([-1, 5, 5, 5, 2, 2, 11, -1, 11]).astype(np.int32)
        write_annot(tmp_path / f"{h}.annot", labels, [f"{h}{i}" for i in range(13)])
    return read_parcellation(tmp_path / "lh.annot", tmp_path / "rh.annot").subset([4, 0, 2, 1])


def test_pack_and_unpack_equal_loops(regions):
    rng = np.random.default_rng(7)
    packing = make_packing(regions, v_max=5)
    betas = rng.normal(size=(3, 18)).astype(np.float32)
    betas[:, 0] = np.nan  # the vertex that empty slots point at must not leak out of its region
    expected = np.zeros((3, 4, 5), np.float32)
    values = rng.normal(size=(2, 3, 4)).astype(np.float32)
    spread = np.full((2, 3, 18), -1, np.float32)
    for i in range(4):
        offset = 9 if regions.hemispheres[i] == "rh" else 0
        for slot, vertex in enumerate(regions.vertices[i]):
            expected[:, i, slot] = betas[:, vertex + offset]
            spread[:, :, vertex + offset] = values[:, :, i]
    np.testing.assert_array_equal(jax.jit(pack)(betas, packing), expected)
    result = jax.jit(unpack, static_argnums=2)(values, packing, 18, -1.0)
    np.testing.assert_array_equal(result, spread)
    assert np.isnan(unpack(jnp.asarray(values), packing, 18)).sum() == (spread == -1).sum()


def test_packing_is_a_pytree_with_tight_default(regions):
    packing = make_packing(regions)
    assert packing.index.shape == packing.mask.shape == (4, 3)
    assert packing.mask.sum() == sum(len(v) for v in regions.vertices)
    doubled = jax.tree.map(lambda a: jnp.concatenate([a, a]), packing)
    assert doubled.index.shape == (8, 3)
    assert pack(jnp.ones((2, 18), jnp.float16), packing).dtype == jnp.float16


def test_too_small_v_max_is_refused(regions):
    with pytest.raises(ValueError, match="has 3 vertices, but v_max is 2"):
        make_packing(regions, v_max=2)


def test_each_sample_is_packed_by_its_subjects_regions(regions):
    rng = np.random.default_rng(7)
    betas = rng.normal(size=(5, 18)).astype(np.float32)
    subject = np.array([1, 0, 2, 2, 1], np.int32)
    own = [regions, regions.subset([3, 1, 0, 2]), regions.subset([1, 3, 2, 0])]
    expected = np.zeros((5, 4, 5), np.float32)
    for b, u in enumerate(subject):
        for i in range(4):
            vertices = own[u].cortex_indices(i)
            expected[b, i, : len(vertices)] = betas[b, vertices]
    packing = stack_packings([make_packing(each, v_max=5) for each in own])
    assert packing.index.shape == (3, 4, 5)
    np.testing.assert_array_equal(jax.jit(pack)(betas, packing, subject), expected)


def test_compact_responses_are_packed_like_the_whole_cortex(regions):
    betas = np.random.default_rng(7).normal(size=(5, 18)).astype(np.float32)
    packing = make_packing(regions, v_max=5)
    vertices, compacted = compact(packing)
    read = sorted(v + 9 * (h == "rh") for i, h in enumerate(regions.hemispheres)
                  for v in regions.vertices[i].tolist())  # fmt: skip
    assert vertices.tolist() == read
    assert len(read) < 18
    np.testing.assert_array_equal(pack(betas[:, vertices], compacted), pack(betas, packing))


def test_compact_responses_of_several_subjects_are_packed_like_the_whole_cortex(regions):
    betas = np.random.default_rng(7).normal(size=(5, 18)).astype(np.float32)
    subject = np.array([1, 0, 2, 2, 1], np.int32)
    own = [regions, regions.subset([3]), regions.subset([1, 3])]
    packings = [make_packing(each.subset([0]), v_max=5) for each in own]
    vertices, compacted = compact(stack_packings(packings))
    assert vertices.shape == (3, max(len(each.vertices[0]) for each in own))
    taken = np.take_along_axis(betas, vertices[subject], axis=1)
    np.testing.assert_array_equal(
        pack(taken, compacted, subject), pack(betas, stack_packings(packings), subject)
    )
