"""The spatial adapter's and the joint space's trainings on a few scenes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from neuroadapter_jax.diffusion.spatial_adapter import SpatialAdapter, SpatialAdapterConfig
from neuroadapter_jax.diffusion.spatial_adapter_files import load_spatial_adapter
from neuroadapter_jax.diffusion.weights import load_pretrained
from neuroadapter_jax.encoder.joint_space import contrastive_loss, last_states, load_joint_space
from neuroadapter_jax.evaluation import features
from neuroadapter_jax.evaluation.features import JOINT_SPACE
from neuroadapter_jax.evaluation.protocol import score_images
from neuroadapter_jax.ranges import SettingError
from neuroadapter_jax.simulation.scenes import sample_scenes
from neuroadapter_jax.training import joint_space as joint
from neuroadapter_jax.training import spatial_adapter as spatial

ADAPTER = {"condition": "depth", "kind": "light", "num_res_blocks": 1}
TRAINING = {
    "batch_size": 3, "num_steps": 51, "learning_rate": 0.01, "weight_decay": 0.0,
    "drop_text": 0.5, "timesteps": "cubic",
}  # fmt: skip


def test_cubic_timesteps_are_one_less_the_cube_of_uniform_ones():
    key = jax.random.key(3)
    cubic = np.asarray(spatial.sample_timesteps(key, 5003, 1000))
    uniform = np.asarray(spatial.sample_timesteps(key, 5003, 1000, "uniform"))
    for bound in (50, 300, 700, 950):  # P((1 - u^3) T < t) = 1 - cbrt(1 - t / T)
        below = int((cubic < bound).sum())
        assert stats.binomtest(below, 5003, 1 - np.cbrt(1 - bound / 1000)).pvalue > 1e-3
        assert stats.binomtest(int((uniform < bound).sum()), 5003, bound / 1000).pvalue > 1e-3


def test_the_loss_is_that_of_the_backbone_with_the_maps_added(random_backbone):
    backbone = load_pretrained(random_backbone)
    config = SpatialAdapterConfig("full", 3, (8, 16), 1, 4)
    graph, params = nnx.split(SpatialAdapter(config, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    batch = {
        "latent": rng.standard_normal((2, 16, 16, 4)).astype(np.float32),
        "states": rng.standard_normal((2, 3, 8)).astype(np.float32),
        "condition": rng.random((2, 64, 64, 3), np.float32),
    }
    empty = jnp.ones((1, 3, 8))
    loss_fn = spatial.make_spatial_loss(graph, backbone, empty, drop_text=0.0)
    key = jax.random.key(1)
    (loss, _), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(params, batch, key)
    noise_key, time_key, _ = jax.random.split(key, 3)
    noise = jax.random.normal(noise_key, (2, 16, 16, 4))
    steps = spatial.sample_timesteps(time_key, 2, 1000)
    noisy = backbone.schedule.add_noise(jnp.asarray(batch["latent"]), noise, steps)
    maps = nnx.merge(graph, params)(jnp.asarray(batch["condition"]))
    streams = [backbone.unet.text_context(jnp.asarray(batch["states"]))]
    found = jax.jit(lambda *x: backbone.unet(x[0], x[1], streams, residuals=x[2]))(
        noisy, steps, maps
    )
    assert float(loss) == pytest.approx(float(jnp.mean((found - noise) ** 2)), rel=1e-4)
    assert all(np.any(np.asarray(x)) for x in jax.tree.leaves(grads))


@pytest.mark.slow
def test_a_spatial_adapter_trains_and_is_read_back(tmp_path, random_backbone, monkeypatch):
    monkeypatch.setattr(spatial, "_NUM_VALIDATION", 5)
    settings = {
        "backbone": str(random_backbone), "seed": 0, "num_scenes": 7, "scene_seed": 3,
        "adapter": ADAPTER, "training": TRAINING,
    }  # fmt: skip
    paths = {"export": tmp_path / "export", "workdir": tmp_path / "run"}
    found = spatial.train_spatial_adapter(**paths, **settings)
    assert found["loss"] < found["without"]
    adapter = load_spatial_adapter(tmp_path / "export")
    assert adapter.config == SpatialAdapterConfig("light", 3, (8, 16), 1, 4)
    with pytest.raises(SettingError, match="learning_rate"):
        wrong = settings | {"training": TRAINING | {"learning_rate": -1.0}}
        spatial.train_spatial_adapter(**paths, **wrong)


def test_the_contrastive_loss_is_clips():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    v, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.standard_normal((2, 7, 5)))
    scores, labels = torch.tensor(13.0 * v @ t.T), torch.arange(7)
    ce = torch.nn.functional.cross_entropy
    truth = (ce(scores, labels) + ce(scores.T, labels)) / 2
    v, t = (jnp.asarray(x, jnp.float32) for x in (v, t))
    assert float(contrastive_loss(v, t, jnp.log(13.0))) == pytest.approx(truth.item(), rel=1e-5)


def test_a_texts_state_is_that_of_its_first_end_token():
    states = jnp.arange(2 * 4 * 3, dtype=jnp.float32).reshape(2, 4, 3)
    ids = jnp.array([[1, 9, 9, 9], [1, 5, 6, 9]])
    assert np.array_equal(last_states(states, ids, 9), np.stack([states[0, 1], states[1, 3]]))


@pytest.mark.slow
def test_the_joint_space_trains_and_is_read_back_as_a_metric(tmp_path, monkeypatch):
    monkeypatch.setattr(joint, "_NUM_VALIDATION", 7)
    training = {"batch_size": 13, "num_steps": 101, "learning_rate": 0.01, "weight_decay": 0.0}
    folder = tmp_path / "joint-space"
    found = joint.train_joint_space(
        export=folder, workdir=tmp_path / "run", vit="tiny-vit", backbone="tiny-sd",
        seed=0, num_scenes=67, scene_seed=2, width=8, training=training,
    )  # fmt: skip
    assert found["pool"] == 7 and found["parameters"] == 8 * (192 + 64) + 1
    scenes = sample_scenes(67, seed=2)  # those it was trained on
    space = load_joint_space(folder)
    images, texts = space.images(scenes.images), space.texts(scenes.captions)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-5)
    # Chance is one of 67, and as many captions are right ten times as often.
    assert (np.argmax(images @ texts.T, axis=1) == np.arange(67)).mean() > 10 / 67
    scores = score_images(
        scenes.images, scenes.images[::-1], networks=(JOINT_SPACE,), weights=tmp_path,
        convention="neuroadapter", progress=False,
    )  # fmt: skip
    assert scores.per_image["two_way_joint_space"].mean() < 0.7


def test_without_a_joint_space_its_score_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "JOINT_SPACE_ASSET", tmp_path / "joint-space")
    with pytest.raises(features.MissingWeightsError, match="pretrain-joint-space"):
        JOINT_SPACE.load(None, False)
