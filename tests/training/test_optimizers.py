import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neuroadapter_jax.training.optimizers import ema_update, make_optimizer, make_schedule


def reference_rate(update, peak, num_updates, warmup, schedule):
    if update < warmup:
        return peak * (update + 1) / (warmup + 1)
    if schedule == "constant":
        return peak
    return peak * (1 + math.cos(math.pi * (update - warmup) / (num_updates - warmup))) / 2


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 5])
def test_schedule_follows_its_formula(schedule, warmup):
    rate = make_schedule(0.3, 23, warmup, schedule)
    got = [float(rate(jnp.int32(u))) for u in range(24)]
    want = [reference_rate(u, 0.3, 23, warmup, schedule) for u in range(24)]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-8)
    assert got[0] > 0 and max(got) == pytest.approx(0.3)


def test_the_step_schedule_is_torchs_steplr():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    steps = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.5)
    want = []
    for _ in range(17):
        want.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        steps.step()
    rate = make_schedule(0.3, 17, schedule="step", decay_every=5)
    np.testing.assert_allclose([float(rate(jnp.int32(u))) for u in range(17)], want, rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "clip_norm", "weight_decay"),
    [("cosine", 1.7, 0.05), ("cosine", 0.9, 0.0), ("constant", None, 0.11)],
)
def test_trajectory_equals_torch_adamw(rng, schedule, clip_norm, weight_decay):
    torch = pytest.importorskip("torch")
    steps, warmup, peak = 42, 6, 0.07
    shapes = {"kernel": (7, 5), "bias": (5,), "scale": (3,)}
    start = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    grads = [
        {k: 2 * rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
        for _ in range(steps)
    ]

    optimizer = make_optimizer(
        make_schedule(peak, steps, warmup, schedule),
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        b1=0.8,
        b2=0.95,
    )

    @jax.jit
    def step(params, opt_state, grad):
        updates, opt_state = optimizer.update(grad, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params = jax.tree.map(jnp.asarray, start)
    opt_state = optimizer.init(params)

    theirs = {k: torch.nn.Parameter(torch.from_numpy(v.copy()).double()) for k, v in start.items()}
    adamw = torch.optim.AdamW(
        theirs.values(), lr=1.0, betas=(0.8, 0.95), eps=1e-8, weight_decay=weight_decay
    )
    for i, grad in enumerate(grads):
        params, opt_state = step(params, opt_state, grad)
        for k, p in theirs.items():
            p.grad = torch.from_numpy(grad[k]).double()
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(theirs.values(), clip_norm)
        adamw.param_groups[0]["lr"] = reference_rate(i, peak, steps, warmup, schedule)
        adamw.step()
        for k, p in theirs.items():
            np.testing.assert_allclose(params[k], p.detach().numpy(), rtol=2e-5, atol=2e-5)


def test_decay_filter_chooses_what_decays(rng):
    params = {
        "kernel": jnp.asarray(rng.normal(size=(3, 2))),
        "bias": jnp.asarray(rng.normal(size=2)),
    }
    optimizer = make_optimizer(
        make_schedule(0.1, 10, 0, "constant"),
        weight_decay=0.5,
        decay_filter=lambda path, leaf: path[-1].key == "kernel",
    )
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    np.testing.assert_allclose(updates["kernel"], -0.1 * 0.5 * params["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0)


def test_ema_reaches_the_closed_form(rng):
    start, target = rng.normal(size=(2, 7)).astype(np.float32)
    ema = {"w": jnp.asarray(start)}
    for _ in range(11):
        ema = ema_update(ema, {"w": jnp.asarray(target)}, 0.9)
    np.testing.assert_allclose(ema["w"], target + 0.9**11 * (start - target), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"warmup_steps": 10}, "warmup_steps is 10"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
    ],
)
def test_values_outside_their_range_are_refused(as_user, change, words):
    with pytest.raises(ValueError, match=words):
        make_schedule(**({"learning_rate": 0.1, "num_steps": 10} | change))
