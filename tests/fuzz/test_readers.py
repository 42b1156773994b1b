"""Whatever happens to a file, its reader gives the right values or an InputError.

The same cases come in every run (`derandomize`); `long.py` beside this file makes more.
"""

import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import damage
from outcome import Prepared, Reader
from registry import READERS

CASES = 2_200
_UNIT = CASES / sum(reader.share for reader in READERS)


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> damage.Others:
    """Valid files of other formats."""
    names = ("pictures", "npz", "gifti", "safetensors", "label table", "metrics", "Deeprecon")
    contents = []
    for reader in READERS:
        if reader.name in names:
            folder = tmp_path_factory.mktemp("other")
            reader.make(folder)
            files = [path for path in folder.rglob("*") if path.is_file()]
            contents += [(path.name, path.read_bytes()) for path in files]
    return contents


def count_for(reader: Reader) -> int:
    return round(_UNIT * reader.share) + 1


def test_there_are_two_thousand_cases():
    assert sum(map(count_for, READERS)) >= 2_000
    assert len({reader.name for reader in READERS}) == len(READERS)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize("reader", READERS, ids=str)
def test_a_damaged_file_gives_right_values_or_one_sentence(reader, others, tmp_path):
    prepared = Prepared(reader, tmp_path / "valid")

    @hypothesis.settings(
        max_examples=count_for(reader),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.data())
    def check(data: st.DataObject):
        case = prepared.choose(lambda low, high: data.draw(st.integers(low, high)), others)
        fault = case.run()
        assert not fault, f"{case}: {fault}"

    check()


def changed(folder: Path, reader: str, name: str, content: bytes | None) -> str:
    """The outcome where a file of a reader holds something else."""
    (found,) = (r for r in READERS if r.name == reader)
    prepared = Prepared(found, folder)
    (path,) = (p for p in prepared.files if p.name == name)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        found.read(folder)
    return str(caught.value)


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (damage.LFS_POINTER, "is a pointer of Git LFS"),
        (damage.WEB_PAGE, "is a web page"),
    ],
    ids=["empty", "pointer", "page"],
)
@pytest.mark.parametrize(
    ("reader", "name"),
    [
        ("safetensors", "w.safetensors"),
        ("safetensors in shards", "w.json"),
        ("derived NSD", "lh_betas_subject-1.h5"),
        ("NSD", "nsd_expdesign.mat"),
        ("NSD", "responses.tsv"),
        ("NSD", "nsd_stim_info_merged.csv"),
        ("mgh", "a.mgh"),
        ("mgz with its table", "lh.V.mgz"),
        ("mgz with its table", "V.mgz.ctab"),
        ("annot", "lh.a.annot"),
        ("gifti", "L.label.gii"),
        ("npz", "a.npz"),
        ("npy", "a.npy"),
        ("pictures", "a.png"),
        ("pictures", "a.jpg"),
        ("scores", "results.json"),
        ("prepared records", "nsd-train.array_record-00000-of-00001"),
        ("views", "views-00000.nc"),
        ("tokenizer", "vocab.json"),
        ("released checkpoint", "pytorch_model.bin"),
    ],
)
def test_what_lies_in_place_of_a_file_is_named(tmp_path, reader, name, content, words):
    said = changed(tmp_path / "valid", reader, name, content)
    assert name in said and words in said and "\n" not in said
