import json

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_pipeline import LH, RH, make_pipeline, make_regions

from neuroadapter_jax.decoders.captions import caption_states, captions_of, read_captions
from neuroadapter_jax.decoders.linear_map import LinearMap, fit_linear_map, region_vertices
from neuroadapter_jax.decoders.linear_two_stage import LinearTwoStage
from neuroadapter_jax.decoders.low_level_start import load_low_level_start, save_low_level_start
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.weights import load_pretrained
from neuroadapter_jax.pipeline import LowLevelStart

COUNT, SHAPE = 23, (3, 2)
IDS = np.arange(COUNT) * 3 + 1
VERTICES = np.array([0, 3, 5, 7, 14, 15, 21, 24, 29, 17, 19])  # of make_regions, rh after 13 lh


@pytest.fixture(scope="module")
def backbone(random_backbone):
    return load_pretrained(random_backbone)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(7)
    fmri = rng.standard_normal((COUNT, LH + RH)).astype(np.float32)
    mixing = rng.standard_normal((len(VERTICES), 6))
    noise = rng.standard_normal((COUNT, 6)) * [0.1, 0.3, 1, 3, 10, 30]
    targets = 5 + fmri[:, VERTICES] @ mixing + noise
    return fmri, targets.astype(np.float32).reshape(COUNT, *SHAPE)


def ridge(x, y, alpha):
    """(X'X + alpha I)^-1 X' y for centred x and y, and the intercept."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    weights = np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ y)
    return weights, mean_y - mean_x @ weights


def test_ridge_is_the_closed_form_at_the_penalty_with_the_least_error_left_out(data):
    fmri, targets = data
    alphas = (0.01, 1.0, 100.0, 1e4)
    np.testing.assert_array_equal(region_vertices(make_regions()), VERTICES)
    found = fit_linear_map(fmri[:, VERTICES], targets, IDS, VERTICES, alphas=alphas)
    x, y = fmri[:, VERTICES].astype(float), targets.reshape(COUNT, -1).astype(float)
    for k in range(y.shape[1]):
        errors = []
        for alpha in alphas:
            left_out = []
            for i in range(COUNT):
                others = np.arange(COUNT) != i
                w, bias = ridge(x[others], y[others, k], alpha)
                left_out.append((y[i, k] - x[i] @ w - bias) ** 2)
            errors.append(np.mean(left_out))
        assert found.alphas[k] == np.float32(alphas[int(np.argmin(errors))])
        weights, bias = ridge(x, y[:, k], float(found.alphas[k]))
        np.testing.assert_allclose(found.weights[:, k], weights, atol=1e-4)
        np.testing.assert_allclose(found.bias[k], bias, atol=1e-4)
    assert len(set(found.alphas.tolist())) > 1
    new = np.random.default_rng(8).standard_normal((5, LH + RH)).astype(np.float32)
    expected = np.stack(
        [
            new[:, VERTICES] @ w + b
            for w, b in (ridge(x, y[:, k], float(found.alphas[k])) for k in range(6))
        ],
        axis=1,
    )
    np.testing.assert_allclose(found(new), expected.reshape(5, *SHAPE), atol=1e-3)


def test_a_map_is_kept(as_user, data, tmp_path):
    responses, targets = data[0][:, VERTICES], data[1]
    made = fit_linear_map(responses, targets, IDS, VERTICES)
    made.save(tmp_path / "map.npz")
    again = LinearMap.load(tmp_path / "map.npz")
    np.testing.assert_array_equal(again(data[0]), made(data[0]))
    np.testing.assert_array_equal(again.image_ids, IDS)
    with pytest.raises(ValueError, match="found 22 images, 23 responses and 23 targets"):
        fit_linear_map(responses, targets, IDS[1:], VERTICES)


def test_states_are_averaged_over_captions(backbone):
    texts = [
        ["a dog upper left, castle, grass, night"],
        ["a key lower right", "snow, day", "wheel"],
    ]
    found = caption_states(backbone, texts, batch_size=3)
    tokenizer = CLIPTokenizer(backbone.folder / "tokenizer")
    expected = [
        np.mean([backbone.text_encoder(jnp.asarray(tokenizer([t])))[0] for t in x], 0)
        for x in texts
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="1 of 2 images have no caption"):
        caption_states(backbone, [["a key"], []])


def test_captions_come_from_files(tmp_path):
    own, coco = tmp_path / "own.json", tmp_path / "coco.json"
    own.write_text(json.dumps({"7": "a dog", "11": ["a cat", "cats"]}))
    entries = [(503, " a train "), (509, "a boat"), (503, "trains"), (521, "unknown")]
    coco.write_text(
        json.dumps({"annotations": [{"image_id": i, "caption": text} for i, text in entries]})
    )
    table = tmp_path / "nsddata" / "experiments" / "nsd" / "nsd_stim_info_merged.csv"
    table.parent.mkdir(parents=True)
    pd.DataFrame({"cocoId": [509, 503, 547], "nsdId": [2, 7, 5]}).to_csv(table)
    found = read_captions([own, coco], tmp_path)
    assert found == {7: ["a dog", "a train", "trains"], 11: ["a cat", "cats"], 2: ["a boat"]}
    assert captions_of(found, np.array([11, 2])) == [["a cat", "cats"], ["a boat"]]
    with pytest.raises(ValueError, match="1 of 2 images have no caption, such as image 5"):
        captions_of(found, np.array([2, 5]))
    with pytest.raises(
        ValueError, match=r"coco\.json holds captions by COCO id; give NSD's folder"
    ):
        read_captions([coco])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty has no nsddata.*merged\.csv"):
        read_captions([coco], tmp_path / "empty")
    own.write_text(json.dumps({"first": "a dog"}))
    with pytest.raises(ValueError, match=r"own\.json has the key 'first'.*such as {\"7\": \["):
        read_captions([own])
    own.write_text(json.dumps(["a dog"]))
    with pytest.raises(
        ValueError, match=r"own\.json: its content .* expected captions by image id"
    ):
        read_captions([own])
    with pytest.raises(FileNotFoundError, match=r"none\.json: not found"):
        read_captions([tmp_path / "none.json"])


@pytest.mark.slow
def test_the_low_level_path_is_diffusers_image_to_image(backbone, random_backbone, data, rng):
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    # The same noise into diffusers' pipeline, conditioned on the same states.
    side = backbone.unet.config.sample_size
    low = rng.standard_normal((3, side, side, 4)).astype(np.float32)
    fmri = data[0][:3]
    tokens = CLIPTokenizer(backbone.folder / "tokenizer").length
    target = rng.standard_normal((COUNT, tokens, 8)).astype(np.float32)
    states = fit_linear_map(data[0][:, VERTICES], target, IDS, VERTICES)
    linear = LinearTwoStage(backbone, make_regions(), states, sampling=Sampling(guidance_scale=2.5))
    ids = np.array([2, 31, 5])
    ours = linear(
        fmri,
        linear.sampling.replace(sampler="dpmsolver++", num_steps=7),
        sample_ids=ids,
        low_level=LowLevelStart(low, 0.6),
        seed=3,
    )
    assert ours.shape == (3, 1, 64, 64, 3)

    pipe = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(
        random_backbone, safety_checker=None, feature_extractor=None, local_files_only=True
    )
    pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(
        pipe.scheduler.config, algorithm_type="dpmsolver++"
    )
    pipe.set_progress_bar_config(disable=True)
    keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(3), i), 0) for i in ids]
    noise = [jax.random.normal(jax.random.fold_in(k, 0), low.shape[1:]) for k in keys]
    noise = torch.from_numpy(np.stack([np.asarray(x) for x in noise])).permute(0, 3, 1, 2)
    pipe.scheduler.set_timesteps(7)
    timesteps, taken = pipe.get_timesteps(7, 0.6, "cpu")
    assert taken == 4
    # Latents instead of an image: the pipeline takes four channels as latents, already scaled.
    latents = torch.from_numpy(low).permute(0, 3, 1, 2)
    pipe.prepare_latents = lambda *_, **__: pipe.scheduler.add_noise(latents, noise, timesteps[:1])
    empty = torch.from_numpy(np.array(caption_states(backbone, [[""]]))).repeat(3, 1, 1)
    truth = pipe(
        image=latents,
        prompt_embeds=torch.from_numpy(states(fmri)),
        negative_prompt_embeds=empty,
        strength=0.6,
        num_inference_steps=7,
        guidance_scale=2.5,
        output_type="np",
    ).images
    assert np.abs(ours[:, 0].astype(int) - np.round(truth * 255)).max() <= 2


@pytest.mark.slow
def test_candidates_and_the_strength_that_takes_no_start(backbone, data):
    tokens = CLIPTokenizer(backbone.folder / "tokenizer").length
    zeros = np.zeros((COUNT, tokens, 8), np.float32)
    states = fit_linear_map(data[0][:, VERTICES], zeros, IDS, VERTICES)
    linear = LinearTwoStage(backbone, make_regions(), states, sampling=Sampling(guidance_scale=1.0))
    two = linear.sampling.replace(num_steps=2)
    reconstructions = linear(data[0][:2], two, num_candidates=2, sample_ids=np.array([5, 3]))
    assert reconstructions.shape == (2, 2, 64, 64, 3)
    again = linear(data[0][1:2], two, num_candidates=2, sample_ids=np.array([3]))
    assert np.abs(again[0].astype(int) - reconstructions[1]).max() <= 1
    assert len({image.tobytes() for image in reconstructions.reshape(4, -1)}) == 4
    low = np.ones((2, 16, 16, 4), np.float32)
    full = linear(
        data[0][:2],
        two,
        num_candidates=2,
        sample_ids=np.array([5, 3]),
        low_level=LowLevelStart(low, 1.0),
    )
    np.testing.assert_array_equal(full, reconstructions)


def test_starts_come_from_files_and_folders(random_backbone, tmp_path, rng):
    pipeline = make_pipeline(random_backbone)
    latents = rng.standard_normal((3, 16, 16, 4)).astype(np.float32)
    path = tmp_path / "low.npz"
    save_low_level_start(path, np.array([5, 11, 2]), latents)
    found = load_low_level_start(path, np.array([2, 5]), pipeline)
    np.testing.assert_array_equal(found, latents[[2, 0]])
    with pytest.raises(ValueError, match=r"low\.npz lacks 2 of 3 stimuli, such as image 3"):
        load_low_level_start(path, np.array([3, 5, 7]), pipeline)
    save_low_level_start(path, np.array([5, 11, 2]), latents[:, :8])
    with pytest.raises(ValueError, match=r"latents of shape \(8, 16, 4\); the model samples"):
        load_low_level_start(path, np.array([5]), pipeline)
    with_nan = latents.copy()
    with_nan[2, 3, 5] = np.nan
    save_low_level_start(path, np.array([5, 11, 2]), with_nan)
    with pytest.raises(ValueError, match=r"low\.npz: the latents of 1 images are NaN .*image 2;"):
        load_low_level_start(path, np.array([2, 5]), pipeline)
    np.savez(path, ids=np.arange(3))
    with pytest.raises(ValueError, match=r"low\.npz lacks image_ids, latents"):
        load_low_level_start(path, np.array([5]), pipeline)
    with pytest.raises(FileNotFoundError, match="nothing: not found; expected an npz file or a"):
        load_low_level_start(tmp_path / "nothing", np.array([5]), pipeline)

    images = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in zip((11, 2), images, strict=True):
        Image.fromarray(image).save(folder / f"{i:06d}.png")
    found = load_low_level_start(folder, np.array([2, 11]), pipeline)
    vae = pipeline.backbone.vae
    mean, _ = vae.encode(jnp.asarray(images[::-1], jnp.float32) / 127.5 - 1)
    np.testing.assert_allclose(found, vae.config.scaling_factor * mean, atol=1e-4)
    with pytest.raises(FileNotFoundError, match=r"000013\.png: not found, and 0 others"):
        load_low_level_start(folder, np.array([2, 13]), pipeline)
    Image.fromarray(images[0, :32]).save(folder / "000002.png")
    with pytest.raises(ValueError, match=r"images of \[\(32, 64\)\] pixels; the model's are 64 x"):
        load_low_level_start(folder, np.array([2, 11]), pipeline)
