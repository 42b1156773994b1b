"""Programs compiled for accelerators that are not here: read rightly, and refused in words."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuroadapter_jax.diffusion import attention_fused
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.studies.benchmark import absent, compile_for
from neuroadapter_jax.studies.benchmark.program_text import program_cost
from neuroadapter_jax.studies.benchmark.programs import even_parcellation

# As XLA for GPUs prints them: a loop of three turns, a convolution and its two derivatives, a
# matrix product whose result is wider, attention in one kernel and an all-reduce.
PROGRAM = """
HloModule jit_step

%body (p: (s32[], f32[10])) -> (s32[], f32[10]) {
  %p = (s32[], f32[10]{0}) parameter(0)
  %x = f32[10]{0} get-tuple-element(%p), index=1
  %y = f32[10]{0} fusion(%x), kind=kLoop, calls=%double
  ROOT %t = (s32[], f32[10]{0}) tuple(%x, %y)
}

ENTRY %main (a: bf16[2,4,4,8], k: bf16[16,3,3,8]) -> f32[10] {
  %a = bf16[2,4,4,8]{3,2,1,0} parameter(0)
  %k = bf16[16,3,3,8]{3,2,1,0} parameter(1)
  %conv = (bf16[2,4,4,16]{3,2,1,0}, u8[0]{0}) custom-call(%a, %k), \
window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn$convForward"
  %out = bf16[2,4,4,16]{3,2,1,0} get-tuple-element(%conv), index=0
  %da = (bf16[2,4,4,8]{3,2,1,0}, u8[0]{0}) custom-call(%out, %k), \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %dk = (bf16[16,3,3,8]{3,2,1,0}, u8[0]{0}) custom-call(%a, %out), \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"
  %l = f32[6,5]{1,0} constant({...})
  %r = f32[7,5]{1,0} constant({...})
  %gemm = (f32[6,7]{1,0}, s8[0]{0}) custom-call(%l, %r), \
custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":\
{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
  %q = bf16[2,128,3,8]{3,2,1,0} constant({...})
  %fmha = (bf16[2,3,128,8]{3,1,2,0}, u8[0]{0}) custom-call(%q, %q, %q), \
custom_call_target="__cudnn$fmhaSoftmax", backend_config={"cudnn_fmha_backend_config": \
{"intermediate_tensor_shape": {"element_type": "BF16", "dimensions": ["2", "3", "128", "128"]}}}
  %g = f32[10]{0} constant({...})
  %sum = f32[10]{0} all-reduce-start(%g), to_apply=%add
  %done = f32[10]{0} all-reduce-done(%sum)
  %state = (s32[], f32[10]{0}) tuple(%done)
  ROOT %loop = (s32[], f32[10]{0}) while(%state), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
}
"""


def test_the_cost_that_a_program_text_tells():
    found = program_cost(PROGRAM)
    conv, kernel, maps = 2 * 4 * 4 * 8, 16 * 3 * 3 * 8, 2 * 4 * 4 * 16
    q = 2 * 128 * 3 * 8
    moved = 2 * (3 * (conv + kernel + maps) + 4 * q)  # in bfloat16
    moved += 4 * (6 * 5 + 7 * 5 + 6 * 7 + 2 * 10 + 3 * 2 * 10)  # in float32
    assert found.bytes_moved == moved
    assert found.longest_loop().bytes_moved == 4 * 2 * 10
    # 2 x outputs x taps x channels, thrice; 2 products of queries, keys and width.
    forward = 2 * maps * 3 * 3 * 8
    assert found.flops["bf16"] == 3 * forward + 2 * 2 * 2 * 3 * 128 * 128 * 8
    assert found.flops["f32"] == 2 * 6 * 7 * 5
    assert found.products == {("bf16", "bf16", "bf16"): 4, ("f32", "f32", "f32"): 1}
    assert found.collectives == {"all-reduce": 1}
    assert found.collective_bytes == 40


def test_flops_of_a_program_compiled_here():
    def function(x, w, images, kernel):
        maps = jax.lax.conv_general_dilated(
            images, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return x @ w, maps

    shapes = ((64, 48), (48, 32), (2, 16, 16, 3), (3, 3, 3, 5))
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(function).lower(*arrays).compile().as_text()
    expected = 2 * 64 * 48 * 32 + 2 * (2 * 8 * 8 * 5) * 3 * 3 * 3
    assert program_cost(text).flops["f32"] == expected


@pytest.mark.parametrize(
    ("name", "capability"), [("h100", (9, 0)), ("l40", (8, 9)), ("a100", (8, 0))]
)
def test_descriptions_of_gpus_ship_with_the_package(name, capability):
    text = (absent._SPECS / f"{name}.txtpb").read_text()
    assert absent._version(text, "cuda_compute_capability")[:2] == capability
    bandwidth = int(text.split("memory_bandwidth: ")[1].split()[0])
    assert bandwidth == pytest.approx(absent.ACCELERATORS[name].bandwidth, rel=0.01)


def test_roofline_is_the_greater_of_two_times():
    one = compile_for.Compiled(
        program="training step",
        accelerator="a100",
        num_devices=8,
        plugin="xla_cuda12",
        peak_bytes=3 * 2**30,
        bytes_moved=2.039e12 / 4,
        flops={"bf16": 312e12 / 10, "f32": 156e12 / 20},
        products={"bf16 x bf16 -> bf16": 5, "bf16 x bf16 -> f32": 2, "f32 x f32 -> f32": 1},
        collectives={"all-reduce": 2},
        collective_bytes=4e6,
        seconds=1.0,
    )
    assert one.compute_seconds() == pytest.approx(0.15)
    assert one.memory_seconds() == one.bound() == pytest.approx(0.25)
    rows = [vars(one), {"program": "ranking", "accelerator": "l40", "num_devices": 1, "error": "x"}]
    lines = compile_for.compiled_table(rows).splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:7] == ["A100 SXM 80 GB", "8", "training step", "3.0", "510", "39.00", "7, 2, 1"]
    assert cells[7:] == ["2 all-reduce of 4 MB", "0.150", "0.250", "**0.250**"]
    assert "not compiled: x" in lines[3]


def test_what_compiles_for_an_accelerator_has_to_be_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"No CUDA plugin of JAX.*pip install"):
        compile_for.compile_for(["h100"], tmp_path)
    with pytest.raises(InputError, match=r"libtpu.*pip install"):
        compile_for.compile_for(["v5p"], tmp_path)
    with pytest.raises(InputError, match="compile_for is h1000; expected some of a100, h100"):
        compile_for.compile_for(["h1000"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_call_that_was_ended_goes_on(monkeypatch, tmp_path):
    done = []

    def compile_apart(one, size):
        done.append((one["program"], one["num_devices"]))
        return {**one, "error": "of its own"} if one["num_devices"] == 8 else {
            **one, "peak_bytes": 1, "bytes_moved": 1.0, "flops": {}, "products": {},
            "collectives": {}, "collective_bytes": 0.0, "seconds": 1.0,
        }  # fmt: skip

    monkeypatch.setattr(compile_for, "installed_plugin", lambda platform: "xla_cuda12")
    monkeypatch.setattr(compile_for, "_compile_apart", compile_apart)
    names = ["training step", "ranking"]
    first = compile_for.compile_for(["h100"], tmp_path, names=names)
    assert done == [("training step", 1), ("ranking", 1), ("training step", 8)]
    # What failed is tried again, what is there is not.
    assert compile_for.compile_for(["h100"], tmp_path, names=names) == first
    assert done[3:] == [("training step", 8)]
    assert json.loads((tmp_path / "compiled.json").read_text())["made_by"]["size"] == "sd15"
    assert (tmp_path / "compiled.md").read_text() == first


def test_files_that_are_something_else_are_not_replaced(monkeypatch, tmp_path):
    monkeypatch.setattr(compile_for, "installed_plugin", lambda platform: "xla_cuda12")
    (tmp_path / "compiled.json").write_text('{"mine": 1}')
    with pytest.raises(FileExistsError, match=r"holds compiled\.json already"):
        compile_for.compile_for(["h100"], tmp_path)
    assert (tmp_path / "compiled.json").read_text() == '{"mine": 1}'


def test_regions_of_one_size_tile_the_surface():
    regions = even_parcellation(10, 2 * 101)
    sizes = [len(vertices) for vertices in regions.vertices]
    assert sum(sizes) == 202 and max(sizes) - min(sizes) <= 1
    assert len(np.unique(np.concatenate([regions.cortex_indices(i) for i in range(10)]))) == 202


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("jax_plugins"), reason="no CUDA plugin of JAX is installed"
)
def test_attention_compiled_for_an_absent_gpu_is_one_kernel():
    program = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding
from neuroadapter_jax.diffusion.attention import attend
from neuroadapter_jax.sharding import ROWS, WHOLE, make_mesh
from neuroadapter_jax.studies.benchmark.absent import absent_devices
from neuroadapter_jax.studies.benchmark.program_text import program_cost
with absent_devices("h100", 8) as devices:
    mesh = make_mesh(devices=devices)
    def array(batch, n, spec):
        place = NamedSharding(mesh, spec)
        return jax.ShapeDtypeStruct((batch, 8, n, 40), jnp.bfloat16, sharding=place)
    def loss(q, k, v):
        return attend(q, k, v)[0].astype(jnp.float32).sum()
    arrays = array(16, 256, ROWS), array(1, 77, WHOLE), array(1, 77, WHOLE)
    text = jax.jit(jax.grad(loss)).lower(*arrays).compile().as_text()
print(text.count('custom_call_target="__cudnn$fmha'), dict(program_cost(text).collectives))
"""
    variables = absent.environment("cuda", os.environ)
    done = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1:] == ["2 {}"], done.stderr[-2000:]


def test_nothing_is_left_of_what_jax_was_told():
    asking = attention_fused.hardware
    with absent._cudnn((8, 0), (9, 10, 0)):
        x = jax.ShapeDtypeStruct((1, 64, 1, 64), jnp.bfloat16)
        attend = jax.jit(lambda x: jax.nn.dot_product_attention(x, x, x, implementation="cudnn"))
        assert jax.eval_shape(attend, x).shape == x.shape
    assert attention_fused.hardware is asking
    with pytest.raises(RuntimeError, match="cuDNN"):
        jax.eval_shape(lambda x: jax.nn.dot_product_attention(x, x, x, implementation="cudnn"), x)
