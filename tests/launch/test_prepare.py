"""What launch/prepare.py says without preparing: missing files, damaged records."""

import json

import pytest
from ml_collections import ConfigDict

from neuroadapter_jax.commands import prepare as command


def data(root, **changes):
    values = {
        "root": str(root),
        "subject": 4,
        "space": "fsaverage",
        "beta_version": "betas_fithrf_GLMdenoise_RR",
        "sessions": (2, 7),
        "simulation": None,
    }
    return ConfigDict(values | changes)


def test_dry_run_of_an_empty_root(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        command.dry_run(data(tmp_path))
    said = capsys.readouterr().out
    assert end.value.code == 1
    # Design, table, behaviour, images, two SNR files, two sessions of two hemispheres, two masks.
    assert said.count("aws s3 cp --no-sign-request s3://natural-scenes-dataset/") == 12
    assert f"subj04/fsaverage/betas_fithrf_GLMdenoise_RR/rh.betas_session07.mgh {tmp_path}" in said
    total = 39_556_875_000 + 2 * 655_652 + 4 * 491_526_284
    assert f"{total:,} bytes (41.5 GB), and 5 tables and labels" in said
    assert list(tmp_path.iterdir()) == []


def test_dry_run_of_a_simulated_subject(tmp_path, capsys):
    command.dry_run(data(tmp_path / "x", simulation=ConfigDict({"seed": 1})))
    assert "Nothing to fetch" in capsys.readouterr().out


def test_verify(tmp_path, capsys):
    folder = tmp_path / "nsd/1.0.0"
    folder.mkdir(parents=True)
    (tmp_path / "provenance.json").write_text(
        json.dumps({"records": "nsd/1.0.0", "request": {}, "shapes": {}})
    )
    with pytest.raises(FileNotFoundError, match="SHA256SUMS does not exist"):
        command.verify(tmp_path)
    # sha256sum of the four bytes "abcd"
    digest = "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"
    (folder / "SHA256SUMS").write_text(f"{digest}  a\n")
    (folder / "a").write_bytes(b"abcd")
    command.verify(tmp_path)
    assert "is as it was written" in capsys.readouterr().out
    (folder / "a").write_bytes(b"abce")
    with pytest.raises(SystemExit, match=r"1 record files of .* are missing or damaged"):
        command.verify(tmp_path)
