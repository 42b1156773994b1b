"""Both sides of the benchmark compute the same, so that their times may be compared."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from neuroadapter_jax.diffusion.text_encoder import CLIPTextConfig
from neuroadapter_jax.diffusion.unet import UNetConfig
from neuroadapter_jax.diffusion.vae import AutoencoderConfig
from neuroadapter_jax.diffusion.weights import num_parameters, to_tensors
from neuroadapter_jax.sharding import make_mesh
from neuroadapter_jax.studies.benchmark.measure import Size, alternate, cases, networks
from neuroadapter_jax.studies.benchmark.ours import Ours
from neuroadapter_jax.studies.benchmark.programs import (
    PROGRAMS,
    Workload,
    make_program,
    training_step,
)
from neuroadapter_jax.studies.benchmark.run import compare_sides, cost_of_views, sides_table

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.slow

SMALL = Size(
    UNetConfig(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_head_dim=2,
        norm_num_groups=8,
    ),
    AutoencoderConfig(
        block_out_channels=(8, 16, 24), layers_per_block=1, norm_num_groups=8, sample_size=32
    ),
    CLIPTextConfig(29, 24, 48, 1, 2, 11),
    num_regions=7,
    max_vertices=5,
    batch=3,
    reconstructions=2,
)


@pytest.fixture(scope="module")
def sides():
    from neuroadapter_jax.studies.benchmark.released import Released

    parts = networks(SMALL)
    return Ours(*parts), Released(*parts)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((3, 8, 8, 4), np.float32)
    packed = rng.standard_normal((3, 7, 5), np.float32)
    return latents, np.array([2, 419, 997], np.int32), packed


def _theirs(released, latents, timesteps, packed):
    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(latents, -1, 1)))
    brain, text = torch.from_numpy(packed), released.empty_prompt(1)
    return released.predict(x, torch.from_numpy(timesteps), brain, text)


def test_predictions_agree(sides, inputs):
    ours, released = sides
    expected = _theirs(released, *inputs).detach().movedim(1, -1).numpy()
    found = np.asarray(ours.predict(*inputs))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_gradients_agree(sides, inputs):
    ours, released = sides
    released.optimizer.zero_grad()
    _theirs(released, *inputs).square().mean().backward()
    expected = {
        "region_projection.weights": released.tokens.weights.grad,
        "region_projection.bias": released.tokens.bias.grad,
        "token_norm.proj.weight": released.tokens.proj.weight.grad,
    }
    for i, processor in enumerate(released.processors.values()):
        expected[f"attention.to_k_ip.{i}.weight"] = processor.to_k_ip.weight.grad
        expected[f"attention.to_v_ip.{i}.weight"] = processor.to_v_ip.weight.grad
    found = to_tensors(nnx.merge(ours.graphs["adapter"], ours.gradient(*inputs)))
    for name, gradient in expected.items():
        gradient = gradient.numpy()
        np.testing.assert_allclose(found[name], gradient, atol=1e-4 * np.abs(gradient).max())


def test_every_case_runs_on_both_sides_and_theirs_writes_its_attention(tmp_path: Path):
    calls = cases(SMALL, 3, tmp_path, ("ours", "theirs"))
    for case, pair in calls.items():
        assert pair.keys() == {"ours", "theirs"}, case
        for call in pair.values():
            call()
    files = sorted(tmp_path.glob("time_step_*.npz"))
    assert len(files) == 3
    for file in files:
        for name, matrix in np.load(file).items():
            assert matrix.shape[::3] == (2, 7), name
            np.testing.assert_allclose(matrix.sum(axis=-1), 1.0, atol=1e-5)


def test_calls_alternate_and_the_first_is_apart(monkeypatch):
    clock, order = [0.0], []
    seconds = {"ours": iter([100.0, 1, 5, 3]), "theirs": iter([50.0, 2, 2, 8])}

    def call(side):
        order.append(side)
        clock[0] += next(seconds[side])

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    found = alternate({side: lambda side=side: call(side) for side in seconds}, repeats=3)
    assert order == ["ours", "theirs"] * 4
    assert found["ours"] == {"first": 100.0, "median": 3.0, "low": 1.0, "high": 5.0}
    assert found["theirs"] == {"first": 50.0, "median": 2.0, "low": 2.0, "high": 8.0}


def test_a_step_has_the_operations_that_pytorch_counts(sides, inputs):
    """PyTorch counts matrix products and convolutions, XLA all; theirs project text keys again."""
    from torch.utils.flop_counter import FlopCounterMode

    _, released = sides
    released.text_encoder.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        _theirs(released, *inputs).square().sum().backward()
    expected = counter.get_total_flops()
    workload = Workload(batch=3, num_vertices=101)
    once, again = (
        training_step(SMALL, workload, None, remat=remat, dtype=jnp.float32)
        for remat in (False, True)
    )
    count = once.lower().cost_analysis()["flops"]
    assert expected < count < 1.15 * expected
    assert 1.2 * count < again.lower().cost_analysis()["flops"] < 1.6 * count

    backbone, adapter, _ = networks(SMALL)
    # The U-Net once, the adapter with Adam's two moments; batch, text and packing are small.
    least = 4 * (num_parameters(backbone.unet) + 3 * num_parameters(adapter))
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(once.arguments))
    assert least < held < 1.05 * least


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_is_one_that_can_be_lowered(name):
    workload = Workload(batch=2, images=2, candidates=2, num_steps=2, num_parcels=10,
                        num_vertices=2 * 101)  # fmt: skip
    program = make_program(name, SMALL, workload, make_mesh(devices=jax.devices()[:1]))
    assert "stablehlo" in program.lower().as_text()


def test_pytorch_at_its_best_predicts_the_same(sides, inputs, monkeypatch):
    """In channels_last and without a compiler; what torch.compile changes is PyTorch's own."""
    from neuroadapter_jax.studies.benchmark import released

    monkeypatch.setattr(released, "has_compiler", lambda: False)
    assert released.tuning() == "channels_last"
    tuned = released.Released(*networks(SMALL), tuned=True)
    weight = tuned.unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    plain, found = (_theirs(each, *inputs).detach() for each in (sides[1], tuned))
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)


def test_the_quicker_of_pytorchs_two_is_what_ours_is_compared_with():
    def side(seconds):
        return {"median": seconds, "low": seconds, "high": seconds, "first": 9.0, "gib": 1.0}

    row = {"ours": side(2.0), "theirs": side(3.0), "tuned": side(1.0)}
    earlier = {name: row[name] for name in ("ours", "theirs")}
    results = {
        "sizes": {"tiny-sd": {"cases": {"forward": row, "gradient": earlier}}},
        "num_steps": {"tiny-sd": 5}, "threads": 2, "repeats": 5, "tuned": "channels_last",
    }  # fmt: skip
    lines = [line.split(" | ") for line in sides_table(results).splitlines()[2:4]]
    assert lines[0][4:7] == ["1.50", "1.000 (1.000 to 1.000)", "0.50"]
    assert lines[1][4:7] == ["1.50", "–", "–"]


def test_files_that_are_no_benchmark_are_not_replaced(tmp_path):
    (tmp_path / "benchmark.json").write_text('{"mine": 1}')
    with pytest.raises(FileExistsError, match=r"holds benchmark\.json already"):
        compare_sides(tmp_path, quick=True)
    assert (tmp_path / "benchmark.json").read_text() == '{"mine": 1}'


def test_steps_that_the_networks_do_not_have_are_refused_before_they_are_made(tmp_path):
    with pytest.raises(ValueError, match="num_steps is 1001; expected 1 to 1000"):
        compare_sides(tmp_path / "new", num_steps=1001)
    with pytest.raises(ValueError, match="num_steps is 1; expected at least 2"):
        cost_of_views(num_steps=1)
    assert not (tmp_path / "new").exists()
