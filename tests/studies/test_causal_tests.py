"""Distances, changes and deletion curves on reconstructions whose answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy.integrate import trapezoid
from tiny_pipeline import LH, RH, make_regions

from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import load_component
from neuroadapter_jax.encoder.weights import load_dinov2
from neuroadapter_jax.evaluation.appearance import (
    MEASURES,
    Appearance,
    distances,
    make_appearance,
)
from neuroadapter_jax.evaluation.scene_reader import load_scene_reader
from neuroadapter_jax.figures.causal import change_figure, deletion_figure, loss_figure
from neuroadapter_jax.ibbi.matching import RegionTraits
from neuroadapter_jax.metrics.recall import derangement
from neuroadapter_jax.metrics.statistics import bootstrap_ratio
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.simulation.scenes import sample_scenes
from neuroadapter_jax.studies import causal_tests

B, P = 7, 11


@pytest.fixture(scope="module")
def scenes():
    return sample_scenes(B, 5)


@pytest.fixture(scope="module")
def reader():
    return load_scene_reader()


def greyed(images, share):
    """Images mixed with mid-grey, a share per image."""
    mixed = (1 - share)[:, None, None, None] * images + share[:, None, None, None] * 128.0
    return np.round(mixed).astype(np.uint8)


class Recorder(NeuroAdapterPipeline):
    """Reconstructs nothing: an image's pixels say which sample, how many regions are kept."""

    def __init__(self):
        self.regions, self.calls = make_regions(), []

    def __call__(self, fmri, sampling, *, keep, sample_ids, **options):
        self.calls.append((fmri, keep, sample_ids, options | {"sampling": sampling}))
        pixels = np.stack([sample_ids, keep.sum(1), np.zeros(len(keep))], -1).astype(np.uint8)
        return np.broadcast_to(pixels[:, None, None, None], (len(keep), 1, 2, 2, 3))


def test_rows_are_reconstructed_with_their_own_noise_and_set(rng):
    fmri = rng.standard_normal((B, LH + RH)).astype(np.float32)
    rows = np.array([5, 1, 1, 6, 0])
    members = rng.random((5, 4)) < 0.5
    pipeline = Recorder()
    reconstruct = causal_tests.perturbed_reconstructions(
        pipeline, fmri, Sampling(num_steps=19), batch_size=3, seed=17, progress=False
    )
    images = reconstruct(rows, members, "silence")
    np.testing.assert_array_equal(images[:, 0, 0, 0], rows)
    np.testing.assert_array_equal(images[:, 1, 1, 1], 4 - members.sum(1))
    assert [len(ids) for _, _, ids, _ in pipeline.calls] == [3, 3]
    assert pipeline.calls[0][3] == {
        "seed": 17,
        "num_candidates": 1,
        "sampling": Sampling(num_steps=19),
    }

    swapped = reconstruct(rows, np.ones((5, 4), bool), "swap")
    np.testing.assert_array_equal(swapped[:, 0, 0, 1], 4)
    taken = np.concatenate([pipeline.regions.cortex_indices(i) for i in range(4)])
    given = np.concatenate([x for x, *_ in pipeline.calls[2:]])[:5]
    others = derangement(B, 17)[rows]
    np.testing.assert_array_equal(given[:, taken], fmri[others][:, taken])


def made_appearance(images, read):
    flat = images.reshape(len(images), -1)
    return Appearance(images, flat[:, ::5] / 8.0, flat[:, ::7] / 4.0, read)


def test_distances_between_images(scenes):
    pytest.importorskip("skimage")
    from skimage.color import rgb2gray
    from skimage.metrics import structural_similarity

    read, other = np.zeros((B, 6), np.int8), np.zeros((B, 6), np.int8)
    other[2, :3], other[4, 5] = -1, 3
    images, changed = scenes.images, greyed(scenes.images, np.linspace(0, 0.9, B))
    found = distances(made_appearance(images, read), made_appearance(changed, other))
    assert list(found) == list(MEASURES)
    for i in range(B):
        difference = images[i].astype(float) - changed[i]
        np.testing.assert_allclose(found["pixel"][i], np.sqrt((difference**2).mean()))
        part = difference.ravel()[::7] / 4
        np.testing.assert_allclose(found["feature"][i], np.sqrt((part**2).mean()))
        part = difference.ravel()[::5] / 8
        np.testing.assert_allclose(found["latent"][i], np.sqrt((part**2).mean()))
        similarity = structural_similarity(
            rgb2gray(images[i]),
            rgb2gray(changed[i]),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
        )
        np.testing.assert_allclose(found["structure"][i], 1 - similarity, atol=1e-4)
    assert found["category"].tolist() == [0, 0, 3, 0, 1, 0, 0]


@pytest.mark.slow
def test_appearance_does_not_depend_on_the_batch(scenes, reader, random_backbone):
    vae, vit = load_component(random_backbone, "vae"), load_dinov2("tiny-vit")
    appearance = make_appearance(vae, vit, reader, batch_size=4)
    found = appearance(scenes.images)
    one = appearance(scenes.images[5:6])
    for name in ("latents", "features"):
        whole, alone = getattr(found, name), getattr(one, name)
        assert len(whole) == B and len(alone) == 1
        np.testing.assert_allclose(whole[5], alone[0], rtol=1e-3, atol=1e-4)
        assert np.abs(whole[4] - alone[0]).max() > 0.1
    mean, _ = vae.encode(jnp.asarray(scenes.images[5:6], jnp.float32) / 127.5 - 1)
    np.testing.assert_allclose(found.latents[5], np.ravel(mean), rtol=1e-3, atol=1e-4)
    # The reader finds nearly all that is shown.
    assert (found.read == scenes.categories).mean() > 0.9


def test_changes_are_relative_to_another_images_reconstruction(scenes):
    images = scenes.images
    region_sets = {"some": np.arange(P) < 3, "many": np.arange(P) < 8}

    def reconstruct(rows, members, perturbation):
        # The third of each region that is silenced, of the first three, is grey.
        scale = {"silence": 1.0, "mean": 0.5}[perturbation]
        return greyed(images[rows], scale * members[:, :3].sum(1) / 3)

    def appearance(reconstructions):
        return made_appearance(reconstructions, np.zeros((len(reconstructions), 6), np.int8))

    found = causal_tests.change_table(
        reconstruct,
        images,
        images,
        scenes.categories,
        region_sets,
        RegionTraits(np.linspace(1.0, 1.1, P), np.full(P, 5), ("lh",) * P),
        appearance,
        ("silence", "mean"),
        seed=3,
    )
    # A set of 8 of 11 regions has no random set beside it.
    assert not found["mean"]["many"]["match"]["matched"]
    assert found["mean"]["many"]["less_random"] == {}
    assert list(found["mean"]) == ["some", "some, random", "many"]
    assert found["mean"]["some"]["regions"] == 3
    order = derangement(B, 3)

    def rms(x, y):
        return np.sqrt(((x.astype(float) - y) ** 2).mean((1, 2, 3)))

    for kind, share in (("silence", 1.0), ("mean", 0.5)):
        reconstructions = greyed(images, np.full(B, share))
        expected = bootstrap_ratio(rms(images, reconstructions), rms(images, images[order]), 3)
        own = found[kind]["some"]
        assert own["pixel"]["value"] == pytest.approx(expected["value"])
        assert own["pixel"]["interval"] == pytest.approx(expected["interval"])
        assert own["category"]["value"] is None  # nothing is read in any of them
        random = found[kind]["some, random"]
        assert random["pixel"]["value"] == 0 and random["pixel_correlation"]["value"] == 1
        less = own["less_random"]["pixel"]
        assert (
            less["value"] == own["pixel"]["value"] and less["interval"] == own["pixel"]["interval"]
        )
        assert less["p"] == 2 / 2**B and own["match"]["matched"]
    assert found["silence"]["many"]["pixel_correlation"]["value"] == pytest.approx(0, abs=1e-6)
    figure = change_figure(found | {"silence": found["mean"]}, B)
    assert len(figure.axes) == 2 and f"{B} images" in figure.get_suptitle()
    plt.close(figure)


def test_a_true_ranking_gains_over_a_random_one(scenes, reader, rng):
    images = scenes.images
    weights = rng.dirichlet(np.full(P, 0.5), B)

    def reconstruct(rows, members, perturbation):
        assert perturbation == "silence"
        return greyed(images[rows], (weights[rows] * members).sum(1))

    rankings = {"true": weights, "wrong": -weights}
    found = causal_tests.deletion_table(
        reconstruct, images, scenes.categories, reader, rankings, num_points=5, seed=2
    )
    assert found["shares"] == pytest.approx([0, 0.25, 0.5, 0.75, 1]) and found["num_images"] == B
    curves = found["curves"]
    assert list(curves) == ["true", "wrong", "random"]
    gains = {name: own["gain"]["recall"]["value"] for name, own in curves.items()}
    assert gains["true"] > gains["random"] + 0.1 and gains["wrong"] < gains["random"] - 0.1
    # Highest first: what a greyed image's correlation with itself is, 1 until it is constant.
    for way, descending in (("deletion", True), ("insertion", False)):
        curve = np.zeros((B, 5))
        for i in range(B):
            order = sorted(range(P), key=lambda p: weights[i, p], reverse=descending)
            for k in range(5):
                gone = round(k / 4 * P) if descending else P - round((1 - k / 4) * P)
                share = sum(weights[i, p] for p in order[: gone if descending else P - gone])
                # Insertion at share k silences the lowest 1 - k.
                reconstructions = greyed(images[i : i + 1], np.array([share]))[0].astype(float)
                if reconstructions.std() > 0:
                    curve[i, k] = np.corrcoef(
                        reconstructions.ravel(), images[i].ravel().astype(float)
                    )[0, 1]
        own = curves["true"][way]["pixel_correlation"]
        values = [point["value"] for point in own["curve"]]
        np.testing.assert_allclose(values, curve.mean(0), atol=1e-6)
        area = trapezoid(curve, dx=0.25, axis=1).mean()
        np.testing.assert_allclose(own["area_under_curve"]["value"], area, atol=1e-6)
    figure = deletion_figure(found)
    lines = figure.axes[3].get_lines()  # insertion, recall
    assert [line.get_label().split()[0] for line in lines] == ["true", "wrong", "random"]
    np.testing.assert_allclose(
        lines[0].get_ydata(), [x["value"] for x in curves["true"]["insertion"]["recall"]["curve"]]
    )
    plt.close(figure)


def test_losses_are_drawn_with_their_intervals():
    score = {"value": 0.5, "interval": [0.25, 0.75]}
    random = {"value": 0.125, "interval": [0.0, 0.25]}
    own = {"objects": 7, "changed": score, "changed_by_random_sets": random}
    figure = loss_figure({"swap": {"Face": own, "LO": own}}, {"swap": 19})
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["Face (7)", "LO (7)"]
    assert "19 images" in axis.get_title()
    np.testing.assert_allclose(axis.containers[0].lines[0].get_xdata(), 0.5)
    np.testing.assert_allclose(axis.containers[1].lines[0].get_xdata(), 0.125)
    plt.close(figure)
