"""Programs timed on this machine's device: within a budget, beside a bound, refused in words."""

import subprocess

import jax
import numpy as np
import pytest

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.studies.benchmark import absent, on_device
from neuroadapter_jax.studies.benchmark.on_device import (
    PROGRAMS,
    TINY,
    describe_device,
    filled,
    measure_one,
    measure_programs,
    measured_table,
    nvidia_driver,
)

CARD = {
    "name": "NVIDIA A100-SXM4-80GB", "platform": "gpu", "num_devices": 2, "driver": "580.11",
    "memory_bytes": 60 * 2**30, "runtime": "PJRT C API cuda 13000", "versions": {"jax": "1.2.3"},
}  # fmt: skip
DONE = {
    "seconds": [0.3, 0.2, 0.4], "first_seconds": 0.5, "compile_seconds": 61.2,
    "planned_bytes": 3 * 2**30, "peak_bytes": 4 * 2**30, "steps_in_a_call": 7,
    "bytes_moved": 2.039e12 / 10, "flops": {"bf16": 312e12 / 20, "f32": 156e12 / 100},
}  # fmt: skip


def cells(table, line):
    rows = [row for row in table.splitlines() if row.startswith("|")]
    return [cell.strip() for cell in rows[2 + line].strip("|").split("|")]


def test_what_was_measured_stands_beside_the_bound(tmp_path):
    said = {"training step": {"error": "it needs 5.0 GiB, more than is free on the device"}}

    def run(what, seconds):
        return CARD if what["program"] is None else said.get(what["program"], DONE)

    table = measure_programs(tmp_path, run=run)
    assert table == (tmp_path / "measured.md").read_text()
    for words in ("NVIDIA A100-SXM4-80GB", "60.0 GiB for JAX", "driver 580.11", "jax 1.2.3"):
        assert words in table
    assert cells(table, 0)[:2] == [
        "training step", "failed: it needs 5.0 GiB, more than is free on the device"
    ]  # fmt: skip
    # By bytes 0.1 s, by operations 0.05 + 0.01.
    assert cells(table, 1)[1:6] == ["**0.3** (0.2 to 0.4)", "3", "0.1", "3.00", "4.0"]
    assert cells(table, 1)[6:] == ["3.0", "204", "17.2", "61", "3.5"]
    # Another call replaces what this one wrote.
    assert measure_programs(tmp_path, run=run) == table


def test_a_device_without_a_data_sheet_has_no_bound():
    device = CARD | {"name": "NVIDIA GeForce RTX 4090", "driver": None, "memory_bytes": None}
    rows = [{"program": "ranking", **DONE, "peak_bytes": None}]
    table = measured_table({"device": device, "size": "sd15", "programs": rows})
    assert "no bound" in table and "driver" not in table
    assert cells(table, 0)[:6] == ["ranking", "**0.3** (0.2 to 0.4)", "3", "–", "–", "–"]


def test_the_budget_is_kept_and_what_did_not_fit_is_named(tmp_path, monkeypatch):
    clock, given = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def run(what, seconds):
        given.append(seconds)
        clock[0] += 40.0
        return CARD if what["program"] is None else DONE

    table = measure_programs(tmp_path, budget=100.0, run=run)
    assert given == [100.0, 60.0, 20.0]
    assert [cells(table, i)[1][:7] for i in range(len(PROGRAMS))] == ["**0.3**"] * 2 + [
        "skipped"
    ] * 3
    assert cells(table, 4)[1] == "skipped: the 100 s were over"


def test_a_process_is_ended_when_its_time_is_over(monkeypatch):
    found = on_device._run_apart({"program": None}, 0.01)
    assert found == {"skipped": "it was not done in the 0 s that were left"}
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nRuntimeError: no driver\n\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert on_device._run_apart({"program": None}, 9.0) == {"error": "RuntimeError: no driver"}


def test_without_an_accelerator_nothing_is_measured(tmp_path):
    here = describe_device()
    assert here["platform"] == "cpu" and here["versions"]["jax"] == jax.__version__
    with pytest.raises(InputError, match=r"JAX sees the CPU alone.*--tiny"):
        measure_programs(tmp_path, run=lambda *_: here)
    with pytest.raises(InputError, match=r"JAX does not start \(no driver\)"):
        measure_programs(tmp_path, run=lambda *_: {"error": "no driver"})
    assert not list(tmp_path.iterdir())
    (tmp_path / "measured.json").write_text('{"mine": 1}')
    with pytest.raises(FileExistsError, match=r"holds measured\.json already"):
        measure_programs(tmp_path, tiny=True, run=lambda *_: here)


def test_a_program_is_compiled_called_and_timed_here():
    found = measure_one("encoder training step", tiny=True, seconds=60.0)
    assert 1 <= len(found["seconds"]) <= 10 and min(found["seconds"]) > 0
    assert found["steps_in_a_call"] == 1 and found["peak_bytes"] is None  # a CPU does not tell
    assert found["planned_bytes"] > 0 and found["flops"]["f32"] > 0
    assert measured_table(
        {"device": describe_device(), "size": "tiny-sd", "programs": [{"program": "x", **found}]}
    ).count("Tiny networks")


def test_memory_that_does_not_suffice_is_told_in_words(monkeypatch):
    def filled(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes")

    monkeypatch.setattr(on_device, "filled", filled)
    found = measure_one("encoder training step", tiny=True, seconds=60.0)
    assert "seconds" not in found and "more than is free on the device" in found["error"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sampling step with views", "ranking"])
def test_a_program_of_several_steps_is_told_by_the_step(name):
    found = measure_one(name, tiny=True, seconds=120.0)
    assert found["steps_in_a_call"] == (TINY.num_steps if name != "ranking" else 1)
    assert all(np.isfinite(found["seconds"]))


def test_arrays_stand_in_for_shapes():
    shapes = {
        "key": jax.eval_shape(lambda: jax.random.key(0)),
        "opt_state": jax.ShapeDtypeStruct((3,), np.float32),
        "kernel": jax.ShapeDtypeStruct((5, 2), jax.numpy.bfloat16),
        "index": jax.ShapeDtypeStruct((4, 5), np.int32),
        "image": jax.ShapeDtypeStruct((300,), np.uint8),
        "mask": jax.ShapeDtypeStruct((2,), np.bool_),
    }
    found = filled(shapes, 13, jax.devices()[0])
    assert {k: (x.shape, x.dtype) for k, x in found.items()} == {
        k: (x.shape, x.dtype) for k, x in shapes.items()
    }
    assert not found["opt_state"].any() and found["mask"].all() and found["kernel"].any()
    assert found["index"].ravel()[:14].tolist() == [*range(13), 0]


def test_devices_are_known_by_the_names_that_jax_gives_them():
    names = {"NVIDIA H100 80GB HBM3": "H100 SXM 80 GB", "NVIDIA L40": "L40 48 GB"}
    for kind, label in names.items():
        assert absent.accelerator_of(kind).label == label
    # Cards of the same name with other memory have other bounds.
    for kind in ("NVIDIA H100 PCIe", "NVIDIA L40S", "NVIDIA A100-SXM4-40GB", "cpu"):
        assert absent.accelerator_of(kind) is None


def test_the_driver_is_told_by_its_module(tmp_path):
    said = tmp_path / "version"
    for line, version in (
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Rele", "570.86.10"),
    ):
        said.write_text(line + "\nGCC version: 12.3.0\n")
        assert nvidia_driver(said) == version
