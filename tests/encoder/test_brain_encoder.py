"""The ensemble: its shares against SciPy, its mixing and ranking against plain loops."""

import dataclasses
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import special, stats
from tiny_backbone import random_network
from tiny_encoder import parcellation

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion import attention_fused
from neuroadapter_jax.diffusion.weights import ASSETS
from neuroadapter_jax.encoder.brain_encoder import (
    BrainEncoder,
    Features,
    check_fits,
    ensemble_weights,
    prepare_images,
    read_features,
    save_brain_encoder,
)
from neuroadapter_jax.encoder.region_encoder import RegionEncoder, RegionEncoderConfig, make_rows
from neuroadapter_jax.encoder.scoring import in_chunks
from neuroadapter_jax.encoder.vit import Dinov2Config, Dinov2Model
from neuroadapter_jax.encoder.weights import dinov2_identity, save_dinov2
from neuroadapter_jax.errors import InputError, NotFiniteError

VIT = Dinov2Config(20, 2, 5, 4, image_size=15, patch_size=3)
N = 19 + 13
DATA = {"subject": 2, "space": "fsaverage5", "beta_version": "b3", "normalize": "session"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two encoders, of the queries of the last block and of the patch tokens."""
    folder = tmp_path_factory.mktemp("encoder")
    save_dinov2(folder / "vit", random_network(lambda rngs: Dinov2Model(VIT, rngs=rngs), 5))
    regions = parcellation()
    rows = make_rows(regions, 4)
    config = RegionEncoderConfig(4, len(rows.region), 4, 20, 5, 13)
    members = [random_network(lambda rngs: RegionEncoder(config, rngs=rngs), i) for i in (1, 2)]
    correlations = np.random.default_rng(3).uniform(-0.2, 0.6, (2, N)).astype(np.float16)
    correlations[:, 4], correlations[0, 9] = -0.1, np.nan
    save_brain_encoder(
        folder / "model",
        Features(str(folder / "vit"), 13, 15),
        members,
        (1, 0),
        regions,
        correlations,
        provenance={"data": DATA},
    )
    return folder / "model", members, correlations.astype(np.float32)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(7).integers(0, 256, (2, 3, 17, 17, 3), np.uint8)


def test_shares_are_a_softmax_over_encoders():
    correlations = np.random.default_rng(0).uniform(-1, 1, (3, 11)).astype(np.float32)
    expected = special.softmax(20 * correlations.astype(np.float64), axis=0)
    np.testing.assert_allclose(ensemble_weights(correlations), expected, atol=1e-6)


def test_images_are_resized_normalised_and_padded():
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(1).integers(0, 256, (2, 29, 29, 3), np.uint8)
    found = np.asarray(prepare_images(images, Features("", 13, 15)))
    in_torch = torch.from_numpy(images).movedim(-1, 1) / 255.0
    small = torch.nn.functional.interpolate(in_torch, (13, 13), mode="bilinear", antialias=True)
    mean, sd = (
        torch.tensor(x)[:, None, None] for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    expected = torch.nn.functional.pad((small - mean) / sd, (0, 2, 0, 2)).movedim(1, -1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.slow
def test_predictions_are_the_weighted_sum_over_members(folder, images):
    path, members, correlations = folder
    encoder = BrainEncoder.from_pretrained(path)
    flat = images.reshape(6, *images.shape[2:])
    found = encoder.predict(flat, batch_size=4)
    shares = special.softmax(20 * np.nan_to_num(correlations), axis=0)
    backbone = random_network(lambda rngs: Dinov2Model(VIT, rngs=rngs), 5)
    prepared = prepare_images(flat, encoder.features)
    expected = np.zeros((6, N))
    rows = encoder.rows
    for member, block, share in zip(members, (1, 0), shares, strict=True):
        packed = np.asarray(member(read_features(backbone, prepared, block), (5, 5), rows))
        index, mask = np.asarray(rows.packing.index), np.asarray(rows.packing.mask)
        expected[:, index[mask]] += packed[:, mask] * share[index[mask]]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    # Three vertices of each hemisphere are in no region.
    assert (found == 0).all(axis=0).sum() == 6


def dealt_otherwise(regions):
    """Two regions of one side that took each other's last vertex, as the control shuffles them."""
    first, second, *others = regions.vertices
    dealt = (np.sort(np.r_[first[:-1], second[-1]]), np.sort(np.r_[second[:-1], first[-1]]))
    return dataclasses.replace(regions, vertices=(*dealt, *others))


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 32])
def test_scores_are_pearsons_over_the_reliable_vertices(folder, images, chunk, shuffled):
    path, _, correlations = folder
    encoder = BrainEncoder.from_pretrained(path)
    fmri = np.random.default_rng(8).standard_normal((2, N)).astype(np.float32)
    regions = encoder.regions.subset([0, 1, 3])
    found = encoder.rank(
        images, fmri, dealt_otherwise(regions) if shuffled else regions, chunk=chunk
    )
    shares = special.softmax(20 * np.nan_to_num(correlations), axis=0)
    reliable = (shares * np.nan_to_num(correlations)).sum(axis=0) > 0
    chosen = np.concatenate([regions.cortex_indices(i) for i in range(3)])
    chosen = chosen[reliable[chosen]]
    assert 4 not in chosen and len(chosen) > 10
    predicted = encoder.predict(images.reshape(6, 17, 17, 3)).reshape(2, 3, N)
    for i in range(2):
        for j in range(3):
            expected = stats.pearsonr(predicted[i, j, chosen], fmri[i, chosen]).statistic
            np.testing.assert_allclose(found[i, j], expected, atol=1e-5)


def test_regions_of_other_vertices_are_not_judged(folder, images):
    """The vertices of known regions dealt out into other sizes are another parcellation."""
    encoder = BrainEncoder.from_pretrained(folder[0])
    first, second, *others = encoder.regions.vertices
    sizes = (first[:-1], np.sort(np.r_[second, first[-1]]), *others)
    other = dataclasses.replace(encoder.regions, vertices=sizes)
    with pytest.raises(ValueError, match="another parcellation"):
        encoder.rank(images, np.zeros((2, N), np.float32), other)


def test_a_folder_is_read_strictly(folder, tmp_path):
    path, members, correlations = folder
    with pytest.raises(FileNotFoundError, match=r"regions\.npz|config\.json"):
        BrainEncoder.from_pretrained(tmp_path)
    other = tmp_path / "other"
    save_brain_encoder(
        other, Features(str(path.parent / "vit"), 13, 15), members, (1, 0), parcellation(),
        correlations,
    )  # fmt: skip
    parcellation().subset([1, 0, 2, 3]).save(other / "regions.npz")
    with pytest.raises(ValueError, match="not the regions"):
        BrainEncoder.from_pretrained(other)
    parcellation().save(other / "regions.npz")
    config = json.loads((other / "config.json").read_text())
    config["encoder"]["mlp_width"] = 11
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="linear1"):
        BrainEncoder.from_pretrained(other)


def test_weights_that_are_not_finite_are_refused(folder, tmp_path):
    shutil.copytree(folder[0], tmp_path / "model")
    path = sorted((tmp_path / "model").glob("*.safetensors"))[1]
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name].reshape(-1)[0] = np.inf
    save_file(tensors, path)
    with pytest.raises(NotFiniteError, match=rf"{path.name}: 1 of \d+ numbers of {name} are NaN"):
        BrainEncoder.from_pretrained(tmp_path / "model")


def test_an_empty_batch_is_refused(as_user, folder, images):
    encoder = BrainEncoder.from_pretrained(folder[0])
    with pytest.raises(InputError, match="images holds none; expected at least one"):
        encoder.predict(images[0, :0])
    with pytest.raises(InputError, match="batch_size is 0; expected a whole number of at least 1"):
        encoder.predict(images[0], batch_size=0)


def test_what_does_not_fit_is_refused(folder):
    encoder = BrainEncoder.from_pretrained(folder[0])
    regions = encoder.regions.subset([2])
    check_fits(encoder, regions, {"data": DATA})
    check_fits(encoder, regions, {})  # a converted checkpoint does not say
    # The same vertices under the name that another file gives them.
    check_fits(encoder, dataclasses.replace(regions, names=("17Networks_x",)), {})
    for key, value in {"subject": 5, "space": "fsaverage", "normalize": "none"}.items():
        with pytest.raises(ValueError, match=f"{key} is .* for the encoder, .* for the adapter; "):
            check_fits(encoder, regions, {"data": DATA | {key: value}})
    moved = Parcellation(("c",), ("rh",), (np.array([0, 12], np.int32),), (19, 13))
    with pytest.raises(ValueError, match="another parcellation: it has no region 'c'"):
        check_fits(encoder, moved, {})
    with pytest.raises(ValueError, match=r"of \(19, 14\)"):
        check_fits(encoder, dataclasses.replace(regions, num_vertices=(19, 14)), {})


def test_what_may_differ_is_said_when_the_encoder_is_loaded(folder):
    encoder = BrainEncoder.from_pretrained(folder[0], allow_other=["normalize"])
    regions = encoder.regions.subset([2])
    check_fits(encoder, regions, {"data": DATA | {"normalize": "none"}})
    with pytest.raises(
        ValueError, match=r"subject is 2 for the encoder, 5 .*allow_other subject\.$"
    ):
        check_fits(encoder, regions, {"data": DATA | {"subject": 5, "normalize": "none"}})


def test_an_encoder_knows_its_vision_transformer_by_its_weights(folder, tmp_path):
    model, vit = shutil.copytree(folder[0], tmp_path / "model"), tmp_path / "vit"
    shutil.copytree(folder[0].parent / "vit", vit)
    config = json.loads((model / "config.json").read_text())
    assert "backbone_fingerprint" not in config  # nobody said
    identity = dinov2_identity(vit)
    (model / "config.json").write_text(json.dumps(config | identity))
    first = BrainEncoder.from_pretrained(model, vit)
    assert first.fingerprint == BrainEncoder.from_pretrained(folder[0]).fingerprint
    content = bytearray((vit / "model.safetensors").read_bytes())
    content[-4] ^= 1
    (vit / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="vit holds other weights than the one that this was"):
        BrainEncoder.from_pretrained(model, vit)
    other = BrainEncoder.from_pretrained(model, vit, allow_other=["backbone"])
    assert other.fingerprint != first.fingerprint


def test_the_encoder_runs_as_one_program(folder, images):
    encoder = BrainEncoder.from_pretrained(folder[0])
    fmri = np.ones((2, N), np.float32) * np.arange(N)
    with jax.log_compiles(False):
        for _ in range(3):
            encoder.rank(images, fmri, encoder.regions)
    assert encoder._scorer(encoder.regions)[0]._cache_size() == 1


def test_a_folder_keeps_the_fingerprint_of_its_vision_transformer(folder, images, tmp_path):
    model, members, correlations = folder
    vit = shutil.copytree(model.parent / "vit", tmp_path / "vit")
    loaded = BrainEncoder.from_pretrained(model)
    save_brain_encoder(
        tmp_path / "model",
        Features(str(vit), 13, 15),
        members,
        (1, 0),
        loaded.regions,
        correlations,
        backbone=dinov2_identity(vit),
    )
    assert BrainEncoder.from_pretrained(tmp_path / "model").blocks == (1, 0)
    tensors = load_file(vit / "model.safetensors")
    tensors["embeddings.cls_token"] = tensors["embeddings.cls_token"] + 1
    save_file(tensors, vit / "model.safetensors")
    with pytest.raises(InputError, match="vit holds other weights than the one that this was"):
        BrainEncoder.from_pretrained(tmp_path / "model")


def test_the_encoder_of_some_regions_ranks_by_them_as_the_whole_does(folder, images):
    whole = BrainEncoder.from_pretrained(folder[0])
    regions = parcellation().subset([3, 1])
    part = whole.of_regions(regions)
    assert part.regions.names == ("d", "b")
    fmri = np.random.default_rng(2).standard_normal((2, N)).astype(np.float32)
    np.testing.assert_allclose(
        part.rank(images, fmri, regions), whole.rank(images, fmri, regions), atol=1e-6
    )
    inside = np.zeros(N, bool)
    for i in range(2):
        inside[regions.cortex_indices(i)] = True
    np.testing.assert_array_equal(part.reliable()[inside], whole.reliable()[inside])
    assert not part.reliable()[~inside].any()
    with pytest.raises(InputError, match="no region 'a'"):
        part.rank(images, fmri, parcellation())


def test_an_encoder_in_bfloat16_multiplies_in_it_and_ranks_nearly_the_same(folder, images):
    encoder = BrainEncoder.from_pretrained(folder[0])
    half = encoder.with_precision("bf16")
    assert encoder.with_precision("fp32") is encoder.with_precision("auto") is encoder
    assert (encoder.precision, half.precision) == ("fp32", "bf16")
    assert half.fingerprint != encoder.fingerprint and half.provenance == encoder.provenance
    fmri = np.random.default_rng(8).standard_normal((2, N)).astype(np.float32)
    scorer, arrays = half._scorer(encoder.regions)
    program = scorer.lower(*arrays, images, fmri, 2).as_text()
    products = re.findall(r"stablehlo\.(?:dot_general|convolution).* : \((.*)\) ->", program)
    # Images are resized in float32, along rows and along columns.
    assert len(products) > 10
    assert sum("f32" in operands.replace("bf16", "") for operands in products) == 2
    whole, rounded = (each.rank(images, fmri, encoder.regions) for each in (encoder, half))
    assert rounded.dtype == np.float32
    assert 0 < np.abs(whole - rounded).max() < 0.05


@pytest.mark.parametrize("chunk", [2, 3, 7, 20])
def test_samples_in_chunks_come_back_in_their_order(rng, chunk):
    array = jnp.asarray(rng.standard_normal((7, 3)), jnp.float32)
    found = in_chunks(lambda x: 2 * x[:, :2] if len(x) <= chunk else None, array, chunk)
    np.testing.assert_array_equal(np.asarray(found), 2 * np.asarray(array)[:, :2])


def test_on_an_accelerator_images_are_ranked_in_chunks_that_its_kernel_takes(
    folder, images, monkeypatch
):
    encoder = BrainEncoder.from_pretrained(folder[0])
    fmri = np.random.default_rng(8).standard_normal((2, N)).astype(np.float32)
    score, arrays = encoder._scorer(encoder.regions)
    truth = np.asarray(score(*arrays, images, fmri, 4))
    sizes = []

    def kernel(q, k, v):
        sizes.append(len(q))
        return attention_fused.attend_with_lengths(q, k, v, "xla")

    hopper = attention_fused.Hardware(nvidia=(9, 0), cudnn=True)
    monkeypatch.setattr(attention_fused, "hardware", lambda: hopper)
    monkeypatch.setattr(attention_fused, "_SMALL", 0)
    monkeypatch.setattr(attention_fused, "_cudnn_refuses", lambda *_: None)
    monkeypatch.setattr(attention_fused, "attend_by_cudnn", kernel)
    monkeypatch.setattr(
        jax.lax,
        "platform_dependent",
        lambda *arrays, default, **platforms: platforms["cuda"](*arrays),
    )
    encoder._scorers.clear()
    score, arrays = encoder._scorer(encoder.regions)
    found = np.asarray(score(*arrays, images, fmri, 4))
    # Six images: four, then the two that are left.
    assert set(sizes) == {4, 2}
    np.testing.assert_allclose(found, truth, atol=1e-5)


def test_the_shipped_encoder_ranks_by_the_regions_of_the_shipped_adapter():
    encoder = BrainEncoder.from_pretrained("brain-encoder-simulated")
    folder = ASSETS / "neuroadapter-simulated"
    regions = Parcellation.load(folder / "regions.npz")
    check_fits(encoder, regions, json.loads((folder / "config.json").read_text())["provenance"])
    fmri, stimuli = PreparedDataset("simulated-responses", "test").fmri_and_stimuli()
    scores = encoder.rank(np.stack([stimuli] * 8), fmri, regions)
    assert scores.argmax(axis=1).tolist() == list(range(8))
