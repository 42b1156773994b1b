import numpy as np
import pytest
import scipy.stats
from imagery_tree import COLUMNS, FOLDER, LETTERS, LH, RH, SPACE, SUBJECT, make_tree

from neuroadapter_jax.datasets.nsd.imagery import NSDImagery


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "nsd")


def read(tree, **options):
    return NSDImagery(tree.root, SUBJECT, SPACE, **options)


def everything(source):
    return np.concatenate([source.read_block(block).betas for block in source.blocks])


@pytest.mark.parametrize(
    ("split", "kind", "sets", "count"),
    [
        ("vision", "vis", "AB", 96),
        ("imagery", "img", "AB", 192),
        ("vision_concepts", "vis", "C", 48),
        ("imagery_concepts", "img", "C", 96),
    ],
)
def test_a_trial_is_its_column_and_its_condition(tree, split, kind, sets, count):
    source = read(tree, normalize="none")
    trials = source.splits()[split]
    expected = tree.trials(kind, sets)
    assert len(trials) == len(expected) == count
    names = [source.stimulus_names[i] for i in source.trial_image_ids()[trials]]
    assert names == [f"{'A' if c in LETTERS['A'] else 'B' if c in LETTERS['B'] else 'C'}_{c}"
                     for c, _ in expected]  # fmt: skip
    columns = [column for _, column in expected]
    np.testing.assert_array_equal(everything(source)[trials], tree.betas[:, columns].T)


def test_every_target_has_its_repeats_in_order(tree):
    source = read(tree, normalize="none")
    imagined = source.splits()["imagery"]
    ids = source.trial_image_ids()
    letter_k = next(i for i, name in source.stimulus_names.items() if name == "B_K")
    found = everything(source)[imagined[ids[imagined] == letter_k]]
    columns = [column for c, column in tree.trials("img", "B") if c == "K"]
    assert [column < 400 for column in columns] == [True] * 8 + [False] * 8
    np.testing.assert_array_equal(found, tree.betas[:, columns].T)


def test_normalised_per_run(tree):
    source = read(tree)
    assert source.settings["normalize"] == "run"
    for run, (first, last) in COLUMNS.items():
        expected = scipy.stats.zscore(tree.betas[:, first:last].T.astype(np.float64), axis=0)
        np.testing.assert_allclose(source.read_block(run).betas, expected, atol=2e-6)


# SciPy, of the vertex that is constant by intent.
@pytest.mark.filterwarnings("ignore:Precision loss occurred in moment calculation")
def test_normalised_over_the_session_as_nsd_was(tree):
    tree.betas[7] = 0.1
    tree.write_betas()
    columns = np.concatenate([np.arange(*span) for span in COLUMNS.values()])
    used = tree.betas[:, columns].T.astype(np.float64)
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(scipy.stats.zscore(used, axis=0))
    expected[:, 7] = 0
    found = everything(read(tree, normalize="session"))
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("normalize", ["run", "session", "none"])
def test_a_vertex_without_data_becomes_zero_and_is_reported(tree, normalize):
    tree.betas[[4, 29]] = np.nan
    tree.write_betas()
    block = read(tree, normalize=normalize).read_block("imgB_2")
    np.testing.assert_array_equal(block.nan_vertices, [4, 29])
    np.testing.assert_array_equal(block.betas[:, [4, 29]], 0)
    assert np.isfinite(block.betas).all()


def test_a_hole_in_the_data_is_refused(tree):
    tree.betas[20, 200] = np.nan
    tree.write_betas()
    source = read(tree)
    source.read_block("visA")
    with pytest.raises(ValueError, match=r"rh.betas_nsdimagery.mgh is NaN .* 1 of 48"):
        source.read_block("visB")


def test_targets_and_snr(tree):
    source = read(tree)
    names = list(source.stimulus_names.values())
    images = source.images(np.arange(18))
    for letter, picture in tree.pictures.items():
        name = f"{'A' if letter in LETTERS['A'] else 'B'}_{letter}"
        np.testing.assert_array_equal(images[names.index(name)], picture)
    assert [names[i] for i in range(18) if images[i] is None] == [f"C_{c}" for c in LETTERS["C"]]
    assert source.num_vertices == (LH, RH)
    np.testing.assert_array_equal(source.ncsnr(), tree.ncsnr)
    for path in (tree.root / FOLDER).glob("betas_*/*.ncsnr.mgh"):
        path.unlink()
    assert np.isnan(read(tree).ncsnr()).all()


def swap(tree, run, old, new):
    conditions = tree.conditions[run]
    conditions[conditions.index(old)] = new
    tree.write_table(run)


def refuse(tree, *words):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        read(tree)
    message = str(error.value)
    assert "\n" not in message and message.endswith("."), message
    for word in words:
        assert word in message, message


def test_what_is_not_as_published_is_refused(tree):
    swap(tree, "imgB_2", "K", "W")
    refuse(tree, "nsdimagery_subj05_imgB_2.tsv", "'K': 7", "'W': 9", "8 times", "set B")
    swap(tree, "imgB_2", "W", "K")
    tree.write_table("visC", first_trial=0)
    refuse(tree, "visC.tsv", "trials 1 to 48")
    text = tree.table("visA").read_text()
    tree.table("visA").write_text(text.replace("CONDITION", "CONDITIONS"))
    refuse(tree, "visA.tsv has no column 'CONDITION'", "CUE")
    tree.table("visA").unlink()
    refuse(tree, "visA.tsv does not exist", "s3://natural-scenes-dataset/nsddata/bdata/nsdimagery/")
    tree.write_betas(columns=719)
    tree.write_table("visA")
    refuse(tree, "lh.betas_nsdimagery.mgh", "(13, 1, 1, 719)", "720")


def test_unknown_normalisation_and_subject(tree):
    with pytest.raises(ValueError, match="'train'; choose one of run, session, none"):
        read(tree, normalize="train")
    with pytest.raises(FileNotFoundError, match="ppdata/subj06"):
        NSDImagery(tree.root, 6, SPACE)
