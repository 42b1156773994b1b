"""The measures of the study of fewer steps against closed forms, and its page."""

import jax
import numpy as np
import pytest
from scipy.stats import spearmanr
from tiny_pipeline import make_pipeline
from tiny_prepared import write_prepared

from neuroadapter_jax.diffusion.lora import init_lora
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import SettingError
from neuroadapter_jax.studies.few_steps import FewStepsSettings, Row, rows_of, run, run_few_steps
from neuroadapter_jax.studies.few_steps import measures as measured
from neuroadapter_jax.studies.few_steps.measures import agreement, passes, seed_variance
from neuroadapter_jax.studies.few_steps.tables import page


def test_the_passes_are_counted_step_by_step():
    schedule = NoiseSchedule()
    assert passes(schedule, Sampling("dpmsolver++", 19, 4.0)) == 38
    assert passes(schedule, Sampling("lcm", 4, 1.0)) == 4
    interval = Sampling("ddim", 10, 4.0, guidance_low=0.5, guidance_high=4.0)
    levels = np.sqrt(1 / schedule.alphas_cumprod[np.arange(10) * 100 + 1] - 1)
    inside = int(((levels > 0.5) & (levels <= 4.0)).sum())
    assert passes(schedule, interval) == 10 + inside and 0 < inside < 10


def test_the_variance_over_seeds_is_estimated_without_bias():
    rng = np.random.default_rng(3)
    seeds, stimuli, pixels = 3, 401, (5, 5, 3)
    means = 128 + 20 * rng.standard_normal((1, stimuli, *pixels))
    images = np.clip(means + 10 * rng.standard_normal((seeds, stimuli, *pixels)), 0, 255)
    found = seed_variance(images.astype(np.uint8))
    assert found["value"] == pytest.approx(10**2 / 20**2, rel=0.05)
    assert found["interval"][0] < found["value"] < found["interval"][1]
    same = np.repeat(images[:1].astype(np.uint8), 3, axis=0)
    assert seed_variance(same)["value"] == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(InputError, match="at least two of both"):
        seed_variance(images[:1].astype(np.uint8))


def test_views_agree_by_ranks(rng):
    reference = rng.random((7, 11))
    assert agreement(reference**3, reference)["value"] == pytest.approx(1.0)
    other = rng.random((7, 11))
    rows = [spearmanr(a, b).statistic for a, b in zip(other, reference, strict=True)]
    found = agreement(other, reference)
    assert found["value"] == pytest.approx(np.mean(rows))
    assert found["of_means"] == pytest.approx(spearmanr(other.mean(0), reference.mean(0)).statistic)


def test_the_rows_share_the_models_guidance_and_the_distilled_ones_have_none():
    own = Sampling("ddim", 50, 3.0, start="grey", spacing="leading")
    rows = {row.name: row for row in rows_of(own, Sampling("lcm", 4, 1.0), FewStepsSettings())}
    assert len(rows) == 10 and list(rows)[:2] == ["dpmsolver++-19", "lcm-4"]
    for row in rows.values():
        assert row.sampling.guidance_scale == (1.0 if row.distilled else 3.0)
        assert row.sampling.start == ("noise" if row.distilled else "grey")
    assert rows["interval-19"].sampling.guidance_high == 4.0
    assert [r.sampling.num_steps for r in rows.values() if r.distilled] == [4, 2, 1]
    assert len(rows_of(own, None, FewStepsSettings())) == 7
    with pytest.raises(SettingError, match="num_seeds is 1; expected at least 2"):
        FewStepsSettings(num_seeds=1)


def entry(title, seconds, loss, low, agreed):
    score = {"value": 0.9, "interval": [0.8, 1.0]}
    less = {"value": loss, "interval": [loss - low, loss + low]}
    names = ("two_way_pixels", "semantic_recall", "object_identity", "ssim")
    return {
        "title": title,
        "passes": 7,
        "processor_seconds": seconds,
        "seed_variance": score,
        "scores": {name: score for name in names},
        "less_compared": {name: less for name in names},
        "agreement": {"value": agreed, "interval": [agreed - 0.01, agreed + 0.01]},
    }


@pytest.mark.parametrize(
    ("loss", "seconds", "said"),
    [(-0.01, 0.19, "is met"), (-0.03, 0.19, "is missed"), (-0.01, 0.3, "is missed")],
)
def test_the_page_says_whether_the_target_is_met_and_which_explanations_change(loss, seconds, said):
    rows = {
        "dpmsolver++-19": entry("nineteen", 1.0, 0.0, 0.02, 0.97),
        "lcm-4": entry("four", seconds, loss, 0.02, 0.8),
        "ddim-50": entry("fifty", 2.0, 0.0, 0.02, 1.0),
    }
    counts = {"num_images": 5, "num_views": 3, "num_seeded": 2, "num_seeds": 2}
    again = {"value": 0.98, "interval": [0.96, 0.99]}
    results = counts | {
        "seconds_are": "processor_seconds",
        "guidance_scale": 4.0,
        "rows": rows,
        "lacking": ["DDPM, 50 steps"],
    }
    text = page(results | {"agreement_of_other_seed": again})
    assert said in text and "Not run yet: DDPM, 50 steps." in text
    assert "Below it lie: four." in text
    assert "nineteen" in text.split("**A fast")[0]


@pytest.mark.slow
def test_the_study_goes_on_where_it_was_ended(random_backbone, tmp_path, monkeypatch):
    write_prepared(tmp_path / "prepared", tmp_path / "root")
    model = make_pipeline(random_backbone)
    unet = model.backbone.unet
    student = model.with_lora(init_lora(unet, jax.random.key(0), 1), Sampling("lcm", 1, 1.0))
    rows = (
        Row("dpmsolver++-19", "two", Sampling("dpmsolver++", 2, 2.5)),
        Row("lcm-4", "one, distilled", Sampling("lcm", 1, 1.0), True),
        Row("ddim-50", "one", Sampling("ddim", 1, 2.5)),
    )
    monkeypatch.setattr(run, "rows_of", lambda *_: rows)
    settings = FewStepsSettings(num_views=2, num_seeded=2, num_seeds=2, batch_size=3)
    folders = (tmp_path / "prepared", tmp_path / "root", tmp_path / "out")

    def study():
        return run_few_steps(model, student, *folders, settings, progress=False)

    with monkeypatch.context() as patch:
        patch.setattr(measured, "brain_views", None)  # the first row is left half done
        with pytest.raises(TypeError):
            study()
    results = study()
    assert list(results["rows"]) == [row.name for row in rows]
    assert results["num_images"] == 3 and results["lacking"] == []
    assert results["rows"]["lcm-4"]["passes"] == 1
    assert results["rows"]["ddim-50"]["agreement"]["value"] == pytest.approx(1.0)
    text = (tmp_path / "out" / "few-steps.md").read_text()
    assert "| one, distilled | 1 |" in text and "The target is" in text
    monkeypatch.setattr(measured, "other_seeds", None)  # nothing is measured again
    assert study() == results
