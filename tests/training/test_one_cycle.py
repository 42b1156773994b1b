"""The one-cycle optimiser against PyTorch's AdamW under OneCycleLR, update by update."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neuroadapter_jax.training.one_cycle import decays, make_one_cycle_optimizer, one_cycle

pytest.importorskip("torch")
import torch

STEPS, WARMUP, RATE = 23, 0.3, 0.01


@pytest.fixture(scope="module")
def run():
    """Rates, betas and weights of PyTorch, with the same gradients."""
    rng = np.random.default_rng(0)
    gradients = {"w": rng.standard_normal((STEPS, 3, 5)), "b": rng.standard_normal((STEPS, 5))}
    leaves = {name: torch.nn.Parameter(torch.ones(g.shape[1:])) for name, g in gradients.items()}
    optimizer = torch.optim.AdamW(
        [{"params": [leaves["w"]]}, {"params": [leaves["b"]], "weight_decay": 0}],
        lr=RATE,
        weight_decay=0.1,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=STEPS, final_div_factor=1000, pct_start=WARMUP
    )
    rates, betas = [], []
    for step in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        betas.append(optimizer.param_groups[0]["betas"][0])
        for name, leaf in leaves.items():
            leaf.grad = torch.tensor(gradients[name][step], dtype=torch.float32)
        optimizer.step()
        if step < STEPS - 1:
            schedule.step()
    weights = {name: leaf.detach().numpy() for name, leaf in leaves.items()}
    return gradients, rates, betas, weights


def test_rate_and_beta_are_pytorchs_at_every_update(run):
    _, rates, betas, _ = run
    first = RATE / 25
    rate = one_cycle(STEPS, WARMUP, first, RATE, first / 1000)
    beta = one_cycle(STEPS, WARMUP, 0.95, 0.85, 0.95)
    np.testing.assert_allclose([rate(u) for u in range(STEPS)], rates, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose([beta(u) for u in range(STEPS)], betas, rtol=1e-5)


def test_the_weights_after_all_updates_are_pytorchs(run):
    gradients, _, _, truth = run
    optimizer = make_one_cycle_optimizer(RATE, STEPS, WARMUP, weight_decay=0.1, decay_filter=decays)
    params = {name: jnp.ones(g.shape[1:]) for name, g in gradients.items()}
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for step in range(STEPS):
        grads = {name: jnp.asarray(g[step], jnp.float32) for name, g in gradients.items()}
        params, state = update(params, state, grads)
    for name, expected in truth.items():
        np.testing.assert_allclose(params[name], expected, rtol=0, atol=1e-5)
