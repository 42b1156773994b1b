"""Time series of known betas: nilearn's and NumPy's least squares give them back."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from neuroadapter_jax.simulation.nsd_files import Design, save_surface, write_behaviour
from neuroadapter_jax.simulation.time_series import (
    TimeSeriesSettings,
    least_squares,
    simulate_run,
    stimulus_response,
    trial_onsets,
    write_time_series,
)

QUIET = TimeSeriesSettings(noise_sd=0.0)


@pytest.fixture(scope="module")
def betas():
    return np.random.default_rng(0).normal(0.5, 2.0, (62, 13))


def test_the_response_is_the_double_gamma_of_nilearn():
    from nilearn.glm.first_level import spm_hrf

    dt = 0.02
    hrf = spm_hrf(t_r=1.0, oversampling=50, time_length=32.0)
    expected = np.convolve(hrf, np.ones(round(3 / dt)))[: round(25 / dt)]
    found = stimulus_response(dt * np.arange(len(expected)))
    assert found.max() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(found, expected / expected.max(), atol=0.02)
    assert (stimulus_response(np.array([-1.0, 0.0])) == 0).all()


def test_least_squares_gives_back_planted_betas_exactly_without_noise(betas):
    series = simulate_run(betas, np.random.default_rng(1), QUIET)
    assert series.shape == (3 * (3 + 62 + 4), 13)
    np.testing.assert_allclose(least_squares(series, 62), betas, atol=0.02)


def test_nilearns_design_gives_back_planted_betas(betas):
    """Its response differs a little from ours (sampling), so betas agree to a correlation."""
    from nilearn.glm.first_level import make_first_level_design_matrix

    series = simulate_run(betas, np.random.default_rng(2), QUIET)
    events = pd.DataFrame(
        {
            "onset": trial_onsets(62),
            "duration": 3.0,
            "trial_type": [f"t{k:02d}" for k in range(62)],
        }
    )
    frames = 4 / 3 * np.arange(len(series))
    design = make_first_level_design_matrix(
        frames, events, hrf_model="spm", drift_model="cosine", high_pass=1 / 120
    )
    weights = np.linalg.lstsq(design.to_numpy(), series.astype(float), rcond=None)[0][:62]
    assert all(np.corrcoef(w, b)[0, 1] > 0.98 for w, b in zip(weights.T, betas.T, strict=True))


def test_errors_are_as_large_as_the_noise_makes_them(betas):
    """Var(estimate) = s^2 X+ V X+^T with V[i, j] = rho^|i - j|, for the planted rho."""
    settings = TimeSeriesSettings(noise_sd=0.3, autocorrelation=0.6, drift_sd=2.0)
    many = np.repeat(betas[:, :1], 400, axis=1)
    errors = least_squares(simulate_run(many, np.random.default_rng(3), settings), 62) - many
    volumes = 207
    times = 4 / 3 * np.arange(volumes)
    phase = np.pi * (np.arange(volumes)[:, None] + 0.5) / volumes
    design = np.hstack(
        [
            stimulus_response(times[:, None] - 4.0 * (3 + np.arange(62))),
            np.cos(phase * np.arange(5)),
        ]
    )
    inverse = np.linalg.pinv(design)
    covariance = 0.6 ** np.abs(np.subtract.outer(np.arange(volumes), np.arange(volumes)))
    expected = 0.3 * np.sqrt(np.diag(inverse @ covariance @ inverse.T))[:62]
    assert errors.std(axis=1).mean() / expected.mean() == pytest.approx(1, abs=0.05)
    assert np.abs(errors.mean(axis=1)).max() < 5 * expected.max() / 20


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(4)
    order = rng.permutation(75)
    design = Design(order, np.arange(75), np.arange(11))
    write_behaviour(tmp_path, 2, design, 25, rng)
    folder = tmp_path / "nsddata_betas/ppdata/subj02/fsaverage5/betas_fithrf_GLMdenoise_RR"
    for name, n in (("lh", 7), ("rh", 5)):
        values = rng.normal(0, 2, (n, 25)).astype(np.float32)
        save_surface(folder / f"{name}.betas_session02.mgh", values)
    return tmp_path


def test_files_hold_the_betas_of_the_session_in_nsds_layout(root):
    files = write_time_series(root, 2, session=2, runs=(1, 12), settings=QUIET)
    assert [p.name for p in files] == [
        f"{h}.timeseries_session02_run{r}.nii.gz" for h in ("lh", "rh") for r in ("01", "12")
    ]
    image = nib.load(files[0])
    assert image.shape == (7, 1, 1, 3 * (3 + 3 + 4))
    assert image.header.get_zooms()[3] == pytest.approx(4 / 3)
    betas = nib.load(
        root / "nsddata_betas/ppdata/subj02/fsaverage5/betas_fithrf_GLMdenoise_RR"
        "/lh.betas_session02.mgh"
    )
    # 25 trials in 12 runs: three in the first, two in the others.
    expected = np.asarray(betas.dataobj)[:, 0, 0, :3].T
    found = least_squares(np.asarray(image.dataobj)[:, 0, 0].T, 3)
    np.testing.assert_allclose(found, expected, atol=0.02)
    folder = root / "nsddata_timeseries/ppdata/subj02/fsaverage5/design"
    column = [int(line) for line in (folder / "design_session02_run01.tsv").read_text().split()]
    table = pd.read_csv(root / "nsddata/ppdata/subj02/behav/responses.tsv", sep="\t")
    shown = table[(table.SESSION == 2) & (table.RUN == 1)]["73KID"].tolist()
    assert len(column) == 30
    assert {i: c for i, c in enumerate(column) if c} == dict(zip((9, 12, 15), shown, strict=True))


def test_what_a_time_series_cannot_be_made_of_is_named(root):
    with pytest.raises(FileNotFoundError, match=r"betas_session03\.mgh does not exist"):
        write_time_series(root, 2, session=3)
    with pytest.raises(ValueError, match="has the runs 1 to 12, not run 13"):
        write_time_series(root, 2, session=2, runs=(13,))
    with pytest.raises(ValueError, match="has 31 volumes; a run of 3 trials has 30"):
        least_squares(np.zeros((31, 2)), 3)
