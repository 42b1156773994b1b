import published_nsd
import pytest

from neuroadapter_jax.datasets.nsd.files import fetching_plan, subject_files

FSAVERAGE = ("fsaverage", "betas_fithrf_GLMdenoise_RR")
BUCKET = "s3://natural-scenes-dataset"


@pytest.mark.parametrize(("subject", "sessions"), [(1, 40), (3, 32), (8, 30)])
def test_all_files_of_a_subject(subject, sessions):
    files = subject_files(subject, *FSAVERAGE)
    betas = [f for f in files if "betas_session" in f.path]
    assert len(betas) == 2 * sessions
    assert betas[-1].path == (
        f"nsddata_betas/ppdata/subj{subject:02d}/fsaverage/betas_fithrf_GLMdenoise_RR/"
        f"rh.betas_session{sessions}.mgh"
    )
    # 491.5 MB each: 284 bytes of header, 163,842 vertices x 750 trials x 4 bytes.
    assert {f.num_bytes for f in betas} == {491_526_284}
    (images,) = [f for f in files if f.path.endswith("nsd_stimuli.hdf5")]
    assert images.num_bytes == 39_556_875_000
    assert {f.path for f in files if not f.needed} == {
        f"nsddata/freesurfer/fsaverage/label/{h}.nsdgeneral.mgz" for h in ("lh", "rh")
    }


def test_plan_lists_what_is_missing_and_truncated(tmp_path):
    design = published_nsd.make_design()
    root = published_nsd.write_tree(tmp_path / "nsd", design, sessions=[1, 2])
    with (root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5").open("r+b") as file:
        file.truncate(39_556_875_000)  # sparse chunks that were never written take no room
    files = subject_files(1, *FSAVERAGE, sessions=[1, 2])
    lines, complete = fetching_plan(root, files)
    assert complete and lines == [f"12 of 12 files are in {root}."]

    betas = f"{published_nsd.BETAS}/lh.betas_session02.mgh"
    (root / betas).unlink()
    short = f"{published_nsd.BETAS}/rh.ncsnr.mgh"
    (root / short).write_bytes(b"0" * 1000)
    (root / "nsddata/ppdata/subj01/behav/responses.tsv").unlink()
    lines, complete = fetching_plan(root, files)
    assert not complete
    assert lines[0].startswith("9 of 12 ")
    total = 491_526_284 + 284 + 4 * 163_842
    assert f"3 to fetch from {BUCKET}, {total:,} bytes" in lines[1] and "1 tables" in lines[1]
    assert f"  {BUCKET}/{betas}  (491,526,284 bytes)" in lines
    assert any(short in line and "truncated, 1,000 bytes are here" in line for line in lines)
    assert f"aws s3 cp --no-sign-request {BUCKET}/{betas} {root / betas}" in lines
    assert sum(line.startswith("aws s3 cp") for line in lines) == 3


def test_masks_are_not_needed(tmp_path):
    files = [f for f in subject_files(5, *FSAVERAGE) if not f.needed]
    lines, complete = fetching_plan(tmp_path, files)
    assert complete and "for the table of checks only" in lines[2]


def test_unknown_subject():
    with pytest.raises(ValueError, match="subjects 1 to 8, not subject 9"):
        subject_files(9, *FSAVERAGE)
