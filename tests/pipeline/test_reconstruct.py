import dataclasses
import json
import re
import signal

import numpy as np
import pytest
from PIL import Image

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.errors import InputError, NotFiniteError
from neuroadapter_jax.interrupts import Interrupted
from neuroadapter_jax.pipeline import (
    LowLevelStart,
    NeuroAdapterPipeline,
    Ranking,
    ReconstructionSettings,
    load_reconstructions,
    reconstruct_split,
    write_reconstructions,
)
from neuroadapter_jax.pipeline.checks import NotFiniteLatentsError

LH, RH, SIDE, COUNT = 5, 3, 7, 11
FOURS = ReconstructionSettings(batch_size=4)
IDS = np.array([2, 3, 17, 40, 41, 59, 61, 62, 70, 71, 999])


class Records(PreparedDataset):
    """A split in memory."""

    def __init__(self, path, num_vertices=(LH, RH)):
        rng = np.random.default_rng(0)
        self.path, self.split, self.image_ids = path, "test", IDS
        self.provenance, self.fingerprint = {"request": {"subject": 1}}, "records"
        self.num_vertices = num_vertices
        self.betas = rng.standard_normal((COUNT, 2, LH + RH)).astype(np.float16)
        self.images = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)

    def __len__(self):
        return COUNT

    def __getitem__(self, i):
        latent = np.zeros((2, 2, 4), np.float16)
        return {
            "image": self.images[i],
            "image_id": IDS[i],
            "betas": self.betas[i],
            "latent_mean": latent,
            "latent_std": latent,
        }


class Painter(NeuroAdapterPipeline):
    """Paints what it was given, so that a test can read it back from the pixels."""

    def __init__(self):
        self.regions = Parcellation(("a",), ("lh",), (np.array([1], np.int32),), (LH, RH))
        self.provenance = {"training": {"parcellation": ("lh.annot", "rh.annot")}}
        self.sampling, self.num_candidates = Sampling(guidance_scale=2.5), 1
        self.fingerprint = {"adapter": "weights"}
        self.sizes = []

    def _sampler(self, fmri, sampling, num_candidates, seed, sample_ids, keep, low_level):
        self.sizes.append(len(fmri))

        def sample(numbers, state, span):
            images = np.zeros((*numbers.shape, SIDE, SIDE, 3), np.uint8)
            images[..., 0] = sample_ids[:, None, None, None]
            images[..., 1] = numbers[..., None, None] + 10 * seed
            images[..., 2] = np.round(100 + 20 * fmri[:, 0])[:, None, None, None]
            return images, numbers

        return sample, np.tile(np.arange(num_candidates), (len(fmri), 1)), sampling.num_steps


class Judge(BrainEncoder):
    """A brain encoder that prefers candidate (2 i + 1) mod 3 of the image with noise number i."""

    precision = "fp32"

    def __init__(self, regions, space="fsaverage"):
        self.regions, self.stimuli = regions, []
        self.provenance = {"data": {"subject": 1, "space": space}}
        self.fingerprint = "encoder"

    def rank(self, images, fmri, regions):
        assert regions.fingerprint() == self.regions.fingerprint()
        self.stimuli.append(fmri)
        numbers, candidates = images[..., 0, 0, 0].astype(int), images[..., 0, 0, 1].astype(int)
        scores = np.where(candidates == (2 * numbers + 1) % 3, 0.5, 0.1 * candidates - 0.2)
        return scores.astype(np.float32)


def blue(betas):
    mean = betas.astype(np.float32).mean(axis=1).astype(np.float16).astype(np.float32)
    return np.round(100 + 20 * mean[:, 0]).astype(np.uint8)


@pytest.fixture
def dataset(tmp_path):
    return Records(tmp_path / "prepared")


def test_every_image_is_reconstructed_and_read_back(dataset, tmp_path):
    grids, painter = [], Painter()
    result = reconstruct_split(
        painter,
        dataset,
        tmp_path / "out",
        ReconstructionSettings(num_candidates=3, seed=4, batch_size=4),
        save_grid=lambda folder, reconstructions: grids.append((folder, reconstructions)),
        progress=False,
    )
    assert painter.sizes == [4, 4, 4]  # the last batch is filled up
    np.testing.assert_array_equal(result.image_ids, IDS)
    np.testing.assert_array_equal(result.stimuli, dataset.images)
    assert result.candidates.shape == (COUNT, 3, SIDE, SIDE, 3)
    np.testing.assert_array_equal(result.candidates[:, 0, 0, 0, 0], np.arange(COUNT))
    np.testing.assert_array_equal(result.candidates[0, :, 0, 0, 1], 40 + np.arange(3))
    np.testing.assert_array_equal(result.candidates[:, 2, 0, 0, 2], blue(dataset.betas))
    assert len(grids) == 1 and grids[0][1] is result

    files = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png")}
    assert files == {f"stimuli/{i:06d}.png" for i in IDS} | {
        f"images/{i:06d}_c{j}.png" for i in IDS for j in range(3)
    }
    picture = np.asarray(Image.open(tmp_path / "out" / "images" / "000017_c1.png"))
    np.testing.assert_array_equal(picture, result.candidates[2, 1])
    again = load_reconstructions(tmp_path / "out")
    for name in ("image_ids", "stimuli", "candidates"):
        np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
    assert again.settings == result.settings
    assert again.settings["sampling"]["guidance_scale"] == 2.5 and again.settings["own_responses"]


def test_the_first_images_alone(dataset, tmp_path):
    settings = ReconstructionSettings(num_candidates=2, seed=4, batch_size=4)
    whole = reconstruct_split(Painter(), dataset, tmp_path / "whole", settings, progress=False)
    painter = Painter()
    settings = dataclasses.replace(settings, num_images=5)
    part = reconstruct_split(painter, dataset, tmp_path / "part", settings, progress=False)
    assert painter.sizes == [4, 4] and part.settings["num_images"] == 5
    for name in ("image_ids", "stimuli", "candidates"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:5])
    np.testing.assert_array_equal(
        load_reconstructions(tmp_path / "part").candidates, part.candidates
    )


def test_a_control_takes_other_responses_at_the_same_noise(dataset, tmp_path):
    order = np.roll(np.arange(COUNT), 3)
    result = reconstruct_split(
        Painter(), dataset, tmp_path / "out", FOURS, order=order, progress=False
    )
    np.testing.assert_array_equal(result.candidates[:, 0, 0, 0, 0], np.arange(COUNT))
    np.testing.assert_array_equal(result.candidates[:, 0, 0, 0, 2], blue(dataset.betas[order]))
    assert result.settings["own_responses"] is False


class Beginner(Painter):
    """Paints where it begins from, too."""

    def _sampler(self, fmri, sampling, num_candidates, seed, sample_ids, keep, low_level):
        options = (num_candidates, seed, sample_ids, keep, low_level)
        sample, numbers, num_steps = super()._sampler(fmri, sampling, *options)

        def begun(numbers, state, span):
            images, state = sample(numbers, state, span)
            if low_level is not None:
                percent = np.round(100 * low_level.strength)
                images[..., 1] = low_level.latents[:, :1, :1, 0, None] + percent
            return images, state

        return begun, numbers, num_steps


def test_a_start_goes_with_its_responses(dataset, tmp_path):
    low = np.tile(np.arange(COUNT, dtype=np.float32)[:, None, None, None], (1, 2, 2, 4))
    order = np.roll(np.arange(COUNT), 3)
    start = LowLevelStart(low, 0.7)
    for name, asked, expected in (("own", None, np.arange(COUNT)), ("other", order, order)):
        result = reconstruct_split(
            Beginner(),
            dataset,
            tmp_path / name,
            FOURS,
            order=asked,
            low_level=start,
            progress=False,
        )
        np.testing.assert_array_equal(result.candidates[:, 0, 0, 0, 1], 70 + expected)
    assert result.settings["strength"] == 0.7
    weaker = LowLevelStart(low, 0.6)
    with pytest.raises(
        ValueError, match=r"other settings: strength is 0\.7 there, 0\.6 here; name"
    ):
        reconstruct_split(Beginner(), dataset, tmp_path / "own", FOURS, low_level=weaker)
    with pytest.raises(
        ValueError, match=r"low_level_start is '\w+' there, 'absent' here; strength"
    ):
        reconstruct_split(Beginner(), dataset, tmp_path / "own", FOURS, progress=False)


def test_images_from_elsewhere_make_a_folder(dataset, tmp_path, as_user):
    reconstructions = 255 - dataset.images
    result = write_reconstructions(
        tmp_path / "out", dataset, reconstructions, {"method": "negative"}
    )
    again = load_reconstructions(tmp_path / "out")
    np.testing.assert_array_equal(again.best, reconstructions)
    np.testing.assert_array_equal(again.stimuli, dataset.images)
    assert again.settings == result.settings and again.settings["method"] == "negative"
    assert again.settings["own_responses"] and again.settings["split"] == "test"
    write_reconstructions(tmp_path / "out", dataset, reconstructions, {"method": "negative"})
    with pytest.raises(
        ValueError, match="method is 'negative' there, 'positive' here; name another folder"
    ):
        write_reconstructions(tmp_path / "out", dataset, reconstructions, {"method": "positive"})
    with pytest.raises(ValueError, match=r"uint8 of shape \(10, 7, 7, 3\); expected uint8"):
        write_reconstructions(tmp_path / "new", dataset, reconstructions[1:], {})
    assert not (tmp_path / "new").exists()


def test_a_killed_call_goes_on_where_it_stopped(dataset, tmp_path):
    class Dying(Painter):
        def __call__(self, *arguments, **settings):
            if len(self.sizes) == 2:
                raise KeyboardInterrupt
            return super().__call__(*arguments, **settings)

    def reconstruct(painter, out, **settings):
        settings = ReconstructionSettings(**{"num_candidates": 2, "batch_size": 4} | settings)
        return reconstruct_split(painter, dataset, out, settings, progress=False)

    whole = reconstruct(Painter(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        reconstruct(Dying(), tmp_path / "out")
    with pytest.raises(ValueError, match="seed is 0 there, 1 here; name another folder"):
        reconstruct(Painter(), tmp_path / "out", seed=1)
    (tmp_path / "out" / "images" / "000003_c1.png").unlink()  # as if killed between two files
    painter = Painter()
    rest = reconstruct(painter, tmp_path / "out")
    assert painter.sizes == [4]  # 11 images, 8 done, 1 of them torn
    np.testing.assert_array_equal(rest.candidates, whole.candidates)
    for path in (tmp_path / "whole").rglob("*.*"):
        other = tmp_path / "out" / path.relative_to(tmp_path / "whole")
        assert other.read_bytes() == path.read_bytes()
    assert not (tmp_path / "out" / "unfinished.json").exists()

    (tmp_path / "out" / "index.json").unlink()
    with pytest.raises(ValueError, match=r"images but neither index\.json nor unfinished\.json"):
        reconstruct(Painter(), tmp_path / "out")


def test_a_call_that_failed_before_its_first_image_binds_nobody(dataset, tmp_path):
    class Failing(Painter):
        def __call__(self, *arguments, **settings):
            raise ValueError("num_steps is 0")

    def reconstruct(painter, **settings):
        settings = ReconstructionSettings(batch_size=4, **settings)
        return reconstruct_split(painter, dataset, tmp_path / "out", settings, progress=False)

    with pytest.raises(ValueError, match="num_steps is 0"):
        reconstruct(Failing(), seed=1)
    assert not (tmp_path / "out").exists()
    # As if killed between the note of the settings and the first image.
    (tmp_path / "out" / "images").mkdir(parents=True)
    note = {"settings": {"seed": 1}, "scores": {}}
    (tmp_path / "out" / "unfinished.json").write_text(json.dumps(note))
    assert len(reconstruct(Painter()).image_ids) == COUNT
    assert not (tmp_path / "out" / "unfinished.json").exists()


def test_a_signal_ends_after_the_batch_and_the_same_call_goes_on(dataset, tmp_path):
    class Asked(Painter):
        def __call__(self, *arguments, **settings):
            signal.raise_signal(signal.SIGINT)
            return super().__call__(*arguments, **settings)

    with pytest.raises(Interrupted):
        reconstruct_split(Asked(), dataset, tmp_path / "out", FOURS, progress=False)
    assert len(list((tmp_path / "out" / "images").iterdir())) == 4
    painter = Painter()
    reconstruct_split(painter, dataset, tmp_path / "out", FOURS, progress=False)
    assert painter.sizes == [4, 4] and len(load_reconstructions(tmp_path / "out").image_ids) == 11


@pytest.mark.parametrize("name", ["images/0.png", "stimuli/0.png", "grid.png"])
def test_pictures_of_someone_else_are_left_alone(dataset, tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(
        InputError, match=rf"out holds {name.split('/')[0]} but neither index\.json"
    ):
        reconstruct_split(Painter(), dataset, tmp_path / "out", progress=False)
    found = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert found == [path.name] and path.read_text() == "mine"


def test_an_index_of_something_else_is_named(dataset, tmp_path):
    (tmp_path / "out").mkdir()
    for text in ('{"weight_map": {}}', "[]", "<!doctype html>"):
        (tmp_path / "out" / "index.json").write_text(text)
        with pytest.raises(
            InputError, match=r"index\.json: .*expected how the images of a folder were made"
        ):
            reconstruct_split(Painter(), dataset, tmp_path / "out", progress=False)
        assert (tmp_path / "out" / "index.json").read_text() == text


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "images/../../secret.png", ".."])
@pytest.mark.parametrize("key", ["stimulus", "candidates"])
def test_an_index_does_not_lead_out_of_its_folder(dataset, tmp_path, key, name):
    out = tmp_path / "out"
    reconstruct_split(Painter(), dataset, out, progress=False)
    Image.open(next((out / "images").iterdir())).save(tmp_path / "secret.png")
    index = json.loads((out / "index.json").read_text())
    index["images"][3][key] = name if key == "stimulus" else [name]
    (out / "index.json").write_text(json.dumps(index))
    with pytest.raises(
        InputError, match=r"index\.json names .* which (lies outside|is an absolute path)"
    ):
        load_reconstructions(out)


def test_a_folder_is_made_again_with_the_same_settings_only(dataset, tmp_path):
    def reconstruct(**settings):
        settings = ReconstructionSettings(batch_size=4, **settings)
        return reconstruct_split(Painter(), dataset, tmp_path / "out", settings, progress=False)

    reconstruct()
    before = (tmp_path / "out" / "index.json").read_bytes()
    reconstruct()
    with pytest.raises(
        ValueError, match=r"sampling\.num_steps is 50 there, 3 here; seed is 0|seed is 0 there"
    ):
        reconstruct(seed=1, sampling=Sampling(num_steps=3, guidance_scale=2.5))
    assert (tmp_path / "out" / "index.json").read_bytes() == before


def test_records_of_another_surface_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has \(3, 5\) vertices per hemisphere, the model's"):
        reconstruct_split(Painter(), Records(tmp_path, (3, 5)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_or_torn_folder_is_named(dataset, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"index\.json: not found; expected a finished"):
        load_reconstructions(tmp_path)
    reconstruct_split(Painter(), dataset, tmp_path / "out", progress=False)
    entries = json.loads((tmp_path / "out" / "index.json").read_text())["images"]
    (tmp_path / "out" / entries[4]["candidates"][0]).unlink()
    with pytest.raises(FileNotFoundError, match=r"000041_c0\.png: listed in index\.json but not"):
        load_reconstructions(tmp_path / "out")


def test_unsuited_files_are_refused(dataset, tmp_path):
    """Grey, with alpha, 16 bits, of another size; listed twice; more candidates of one."""
    out = tmp_path / "out"
    reconstruct_split(
        Painter(), dataset, out, ReconstructionSettings(num_candidates=2), progress=False
    )
    whole = json.loads((out / "index.json").read_text())
    name = whole["images"][3]["candidates"][1]
    genuine = Image.open(out / name)
    genuine.load()
    changed = {
        "mode L; expected RGB": genuine.convert("L"),
        "mode RGBA; expected RGB": genuine.convert("RGBA"),
        "mode I;16; expected RGB": Image.fromarray(np.zeros((SIDE, SIDE), np.uint16)),
        f"is 7 x 8 pixels, the images before it are {SIDE} x {SIDE}": genuine.resize((8, 7)),
    }
    for words, image in changed.items():
        image.save(out / name)
        with pytest.raises(ValueError, match=re.escape(words)) as error:
            load_reconstructions(out)
        assert name in str(error.value)
    genuine.save(out / name)

    for words, entry, change in (
        ("lists image 17 more than once", 3, {"image_id": 17}),
        (
            "lists 1 to 2 candidates per stimulus",
            3,
            {"candidates": whole["images"][3]["candidates"][:1]},
        ),
    ):
        index = json.loads(json.dumps(whole))
        index["images"][entry] |= change
        (out / "index.json").write_text(json.dumps(index))
        with pytest.raises(ValueError, match=words):
            load_reconstructions(out)


@pytest.mark.parametrize("keep", [True, False])
def test_an_encoder_chooses_and_its_scores_are_kept(dataset, tmp_path, keep):
    painter = Painter()
    judge = Judge(painter.regions)
    settings = ReconstructionSettings(num_candidates=3, batch_size=4)
    out, ranking = tmp_path / "out", Ranking(judge, keep_candidates=keep)
    result = reconstruct_split(painter, dataset, out, settings, ranking=ranking, progress=False)
    preferred = (2 * np.arange(COUNT) + 1) % 3
    np.testing.assert_array_equal(result.best[:, 0, 0, 0], np.arange(COUNT))
    np.testing.assert_array_equal(result.best[:, 0, 0, 1], preferred)
    assert result.candidates.shape[1] == (3 if keep else 1) and result.scores.shape == (
        COUNT,
        3,
    )
    np.testing.assert_array_equal(result.scores.argmax(axis=1), preferred)
    assert len(list((out / "images").glob("*.png"))) == COUNT * (3 if keep else 1)

    # A killed run goes on: what is missing is sampled, what is there keeps its scores.
    index = json.loads((out / "index.json").read_text())
    (out / "index.json").unlink()
    scores = {str(e["image_id"]): e["scores"] for e in index["images"]}
    del scores["17"], scores["70"]
    unfinished = {"settings": index["settings"], "scores": scores}
    (out / "unfinished.json").write_text(json.dumps(unfinished))
    painter.sizes.clear()
    reconstruct_split(painter, dataset, out, settings, ranking=ranking, progress=False)
    assert painter.sizes == [4]
    again = load_reconstructions(out)
    np.testing.assert_array_equal(again.best, result.best)
    np.testing.assert_array_equal(again.scores, result.scores)


def test_an_encoder_of_other_data_is_refused(dataset, tmp_path):
    painter = Painter()
    painter.provenance["data"] = {"subject": 1, "space": "fsaverage5"}
    with pytest.raises(
        ValueError, match=r"space is 'fsaverage' for the encoder, 'fsaverage5' for the adap"
    ):
        reconstruct_split(
            painter, dataset, tmp_path / "out", ranking=Ranking(Judge(painter.regions))
        )
    # A model that says nothing of its data leaves the encoder and the records to be compared.
    dataset.provenance["request"]["space"] = "fsaverage6"
    with pytest.raises(ValueError, match="space is 'fsaverage' for the encoder, 'fsaverage6' for"):
        reconstruct_split(
            Painter(), dataset, tmp_path / "out", ranking=Ranking(Judge(painter.regions))
        )
    del dataset.provenance["request"]["space"]
    other = Parcellation(("a",), ("lh",), (np.array([2], np.int32),), (LH, RH))
    with pytest.raises(ValueError, match="another parcellation: it has no region 'a'"):
        reconstruct_split(
            painter, dataset, tmp_path / "out", ranking=Ranking(Judge(other, "fsaverage5"))
        )
    mesh = Parcellation(("a",), ("lh",), (np.array([1], np.int32),), (LH, RH + 1))
    with pytest.raises(ValueError, match=r"\(5, 4\) vertices per hemisphere"):
        reconstruct_split(
            painter, dataset, tmp_path / "out", ranking=Ranking(Judge(mesh, "fsaverage5"))
        )
    assert not (tmp_path / "out").exists()


def test_images_whose_latents_overflow_are_named_and_those_before_are_kept(dataset, tmp_path):
    class Overflowing(Painter):
        def _sampler(self, fmri, sampling, num_candidates, seed, sample_ids, keep, low_level):
            if 5 in sample_ids:
                raise NotFiniteLatentsError(np.array([1, 3]))
            return super()._sampler(
                fmri, sampling, num_candidates, seed, sample_ids, keep, low_level
            )

    with pytest.raises(NotFiniteError, match=rf"^image {IDS[5]}, image {IDS[7]}: the sampled"):
        reconstruct_split(Overflowing(), dataset, tmp_path / "out", FOURS, progress=False)
    images = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert images == [f"{i:06d}_c0.png" for i in IDS[:4]]
    assert not (tmp_path / "out" / "index.json").exists()


def test_halving_keeps_what_was_sampled_to_the_end(dataset, tmp_path):
    painter, out = Painter(), tmp_path / "out"
    settings = ReconstructionSettings(
        Sampling(num_steps=5, guidance_scale=2.5), num_candidates=3, batch_size=4
    )
    ranking = Ranking(Judge(painter.regions), halving=[(2, 2)], keep_candidates=True)
    result = reconstruct_split(painter, dataset, out, settings, ranking=ranking, progress=False)
    preferred = (2 * np.arange(COUNT) + 1) % 3
    np.testing.assert_array_equal(result.best[:, 0, 0, 1], preferred)
    assert result.candidates.shape[1] == 2 and result.scores.shape == (COUNT, 2)
    assert result.settings["halving"] == [[2, 2]]
    np.testing.assert_array_equal(load_reconstructions(out).best, result.best)


def test_a_call_goes_on_with_the_same_content_only(dataset, tmp_path):
    out = tmp_path / "out"
    reconstruct_split(Painter(), dataset, out, FOURS, progress=False)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}

    other = Records(dataset.path)
    other.fingerprint = "recorded anew"
    with pytest.raises(ValueError, match=r"other input: the content of prepared is another than"):
        reconstruct_split(Painter(), other, out, FOURS, progress=False)
    painter = Painter()
    painter.fingerprint = {"adapter": "other", "unet": "more"}
    with pytest.raises(ValueError, match=r"content of weights\.adapter .* of weights\.unet is ano"):
        reconstruct_split(painter, dataset, out, FOURS, progress=False)
    five = dataclasses.replace(FOURS, batch_size=5)
    with pytest.raises(ValueError, match="batch_size is 4 there, 5 here; name another folder"):
        reconstruct_split(Painter(), dataset, out, five, progress=False)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before

    # What moved has the same content; an index of an earlier version does not say.
    moved, painter = Records(tmp_path / "moved"), Painter()
    reconstruct_split(painter, moved, out, FOURS, progress=False)
    assert painter.sizes == []
    index = json.loads((out / "index.json").read_text())
    del index["settings"]["inputs"]
    (out / "index.json").write_text(json.dumps(index))
    reconstruct_split(painter, moved, out, FOURS, progress=False)
    index["settings"]["prepared"] = "elsewhere"
    (out / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="prepared is 'elsewhere' there"):
        reconstruct_split(painter, moved, out, FOURS, progress=False)


def test_an_encoder_of_other_weights_does_not_go_on(dataset, tmp_path):
    judge = Judge(Painter().regions)
    settings = ReconstructionSettings(num_candidates=3, batch_size=4)
    out, ranking = tmp_path / "out", Ranking(judge)
    reconstruct_split(Painter(), dataset, out, settings, ranking=ranking, progress=False)
    judge.fingerprint = "trained again"
    with pytest.raises(ValueError, match="the content of encoder_weights is another than then"):
        reconstruct_split(Painter(), dataset, out, settings, ranking=ranking, progress=False)


def test_records_of_other_data_are_refused_unless_they_are_meant(dataset, tmp_path):
    painter, out = Painter(), tmp_path / "out"
    painter.provenance["data"] = {"dataset": "nsd", "subject": 2, "normalize": "session"}
    dataset.provenance["request"] = {"dataset": "nsd_imagery", "subject": 1, "normalize": "run"}
    with pytest.raises(ValueError) as error:
        reconstruct_split(painter, dataset, out, FOURS, progress=False)
    for word in (
        "dataset is 'nsd' for the model, 'nsd_imagery' for the records",
        "normalize is 'session' for the model, 'run' for the records",
        "subject is 2 for the model, 1 for the records",
        "--allow_other dataset,normalize,subject",
    ):
        assert word in str(error.value)
    assert not out.exists()
    meant = dataclasses.replace(FOURS, allow_other=("dataset", "normalize", "subject"))
    result = reconstruct_split(painter, dataset, out, meant, progress=False)
    assert result.settings["other_data"] == {
        "dataset": ["nsd", "nsd_imagery"], "normalize": ["session", "run"], "subject": [2, 1],
    }  # fmt: skip
    assert load_reconstructions(out).settings["data"] == dataset.provenance["request"]
