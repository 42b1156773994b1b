"""launch/convert.py as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_backbone import random_network

from neuroadapter_jax.adapter.decoupled_attention import cross_attention_shapes
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter, NeuroAdapterConfig
from neuroadapter_jax.diffusion.weights import load_pretrained, load_safetensors, to_tensors
from neuroadapter_jax.interop import save_ip_adapter, save_released, slot_regions
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline

pytest.importorskip("torch")
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
P, V = 3, 5


def start(*arguments):
    command = [sys.executable, str(ROOT / "launch" / "convert.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def finish(process):
    out, error = process.communicate()
    return process.returncode, out, error.strip().splitlines()[-1] if error.strip() else ""


@pytest.fixture(scope="module")
def pipeline(random_backbone):
    backbone = load_pretrained(random_backbone)
    widths, heads = map(tuple, cross_attention_shapes(backbone.unet))
    config = NeuroAdapterConfig(P, V, 8, widths, heads)
    adapter = random_network(lambda rngs: NeuroAdapter(config, rngs=rngs), 4)
    regions = slot_regions(P, V)
    return NeuroAdapterPipeline(adapter, backbone, regions, backbone_name=str(random_backbone))


def test_there_and_back(pipeline, random_backbone, tmp_path):
    save_released(pipeline, tmp_path / "released")
    pipeline.regions.save(tmp_path / "regions.npz")
    pipeline.regions.subset([0, 1]).save(tmp_path / "two.npz")
    source = ("--released", tmp_path / "released", "--backbone", random_backbone)
    wrong = start(*source, "--regions", tmp_path / "two.npz", "--out", tmp_path / "wrong")
    model = ("--regions", tmp_path / "regions.npz", "--out", tmp_path / "model")
    code, out, error = finish(start(*source, *model))
    assert code == 0, error
    assert out == f"Written: {tmp_path / 'model'}\n"
    loaded = NeuroAdapterPipeline.from_pretrained(tmp_path / "model")
    assert loaded.regions.fingerprint() == pipeline.regions.fingerprint()
    assert loaded.sampling.guidance_scale == 4.0
    for name, value in to_tensors(pipeline.adapter).items():
        np.testing.assert_array_equal(to_tensors(loaded.adapter)[name], value)

    code, _, error = finish(wrong)
    assert code == 1 and "holds 3 regions but 2 were given" in error
    assert error.startswith("convert: ") and not (tmp_path / "wrong").exists()

    targets = {"released": tmp_path / "released-again", "ip_adapter": tmp_path / "a.safetensors"}
    running = [
        start("--model", tmp_path / "model", "--to", to, "--out", out)
        for to, out in targets.items()
    ]
    running.append(start("--out", tmp_path / "none"))
    results = [finish(process) for process in running]
    assert [code for code, _, _ in results] == [0, 0, 1], results
    assert results[2][2] == "convert: give either --model or --released."
    for name in ("pytorch_model.bin", "pytorch_model_1.bin"):
        first, second = (
            torch.load(tmp_path / folder / name, weights_only=True)
            for folder in ("released", "released-again")
        )
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    save_ip_adapter(pipeline, tmp_path / "b.safetensors")
    first, second = (load_safetensors(tmp_path / f"{x}.safetensors") for x in "ab")
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[key], second[key]) for key in first)
