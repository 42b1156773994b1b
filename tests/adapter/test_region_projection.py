import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from neuroadapter_jax.adapter.region_projection import RegionMLP, RegionProjection
from neuroadapter_jax.sharding import partition

P, V, F = 11, 13, 101


def test_each_region_has_a_matrix_of_its_own(rng):
    torch = pytest.importorskip("torch")
    bank = RegionProjection(P, V, F, rngs=nnx.Rngs(3))
    bank.bias[...] = jnp.asarray(rng.standard_normal((P, F)), jnp.float32)
    packed = rng.standard_normal((5, P, V)).astype(np.float32)
    weights, bias = np.asarray(bank.weights[...]), np.asarray(bank.bias[...])
    ours = np.asarray(bank(jnp.asarray(packed)))
    for p in range(P):
        linear = torch.nn.Linear(V, F)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(weights[p].T))
            linear.bias.copy_(torch.tensor(bias[p]))
            truth = linear(torch.from_numpy(packed[:, p])).numpy()
        np.testing.assert_allclose(ours[:, p], truth, atol=1e-5)


def test_empty_slots_do_not_act(rng):
    bank = RegionProjection(P, V, F, rngs=nnx.Rngs(3))
    graph, state = nnx.split(bank)
    sizes = rng.integers(1, V, P)
    packed = rng.standard_normal((5, P, V)).astype(np.float32)
    packed[:, np.arange(V) >= sizes[:, None]] = 0
    gradient = jax.grad(lambda s: jnp.sum(nnx.merge(graph, s)(jnp.asarray(packed)) ** 2))(state)
    acts = np.any(np.asarray(gradient["weights"][...]) != 0, axis=-1)
    np.testing.assert_array_equal(acts, np.arange(V) < sizes[:, None])


@pytest.mark.parametrize(
    ("initial", "torch_shape"),
    [("released", (P, V, F)), ("per_region", (V, F))],  # a 3-D tensor, and each region's own
)
def test_random_start_is_pytorchs_xavier_uniform(initial, torch_shape):
    torch = pytest.importorskip("torch")
    ours = np.asarray(RegionProjection(P, V, F, initial, rngs=nnx.Rngs(3)).weights[...])
    torch.manual_seed(0)
    draws = [torch.nn.init.xavier_uniform_(torch.empty(torch_shape)).numpy() for _ in range(11)]
    truth = np.concatenate([x.ravel() for x in draws])
    # Over 10,000 uniform draws come within a thousandth of the bound.
    assert np.abs(ours).max() == pytest.approx(np.abs(truth).max(), rel=2e-3)
    assert ours.std() == pytest.approx(truth.std(), rel=3e-2)
    assert abs(ours.mean()) < 0.03 * np.abs(truth).max()


@pytest.mark.parametrize(("initial", "spread"), [("released", 0.0), ("per_region", 1.0)])
def test_regions_differ_from_the_start_unless_as_released(initial, spread):
    bank = RegionProjection(P, V, F, initial, rngs=nnx.Rngs(3))
    tokens = np.asarray(bank(jnp.zeros((1, P, V))))[0]
    # 1,111 normal draws: the standard error of their spread is 0.021.
    assert tokens.std() == pytest.approx(spread, abs=0.07)
    assert abs(tokens.mean()) < 0.1


def test_another_start_is_refused(as_user):
    with pytest.raises(ValueError, match=r"initial is 'zeros'; expected 'per_region' or"):
        RegionProjection(P, V, F, "zeros", rngs=nnx.Rngs(0))


# ---- a bank per subject


@pytest.fixture
def banks(rng):
    """Three subjects' banks with a bias each, and seven samples of two of them."""
    bank = RegionProjection(P, V, F, num_subjects=3, rngs=nnx.Rngs(3))
    assert bank.weights[...].shape == (P, 3, V, F) and bank.bias[...].shape == (P, 3, F)
    packed = rng.standard_normal((7, P, V)).astype(np.float32)
    return bank, packed, np.array([2, 0, 0, 2, 2, 0, 2], np.int32)


def test_each_sample_takes_its_subjects_bank(banks):
    bank, packed, subject = banks
    weights, bias = np.asarray(bank.weights[...]), np.asarray(bank.bias[...])
    ours = np.asarray(jax.jit(lambda x, u: bank(x, u))(jnp.asarray(packed), jnp.asarray(subject)))
    truth = np.empty((7, P, F), np.float32)
    for b in range(7):
        for p in range(P):
            truth[b, p] = packed[b, p] @ weights[p, subject[b]] + bias[p, subject[b]]
    np.testing.assert_allclose(ours, truth, atol=2e-5)
    for u in range(3):
        alone = bank.of_subject(u)(jnp.asarray(packed))
        own = subject == u
        np.testing.assert_allclose(ours[own], np.asarray(alone)[own], atol=2e-5)


def test_the_joint_gradient_is_each_subjects_own(banks, rng):
    """d/dW of sum_b <E[b], G[b]> is sum over the subject's samples of B[b, p] G[b, p]'."""
    bank, packed, subject = banks
    upstream = rng.standard_normal((7, P, F)).astype(np.float32)
    graph, state = nnx.split(bank)

    def loss(state):
        return jnp.sum(
            nnx.merge(graph, state)(jnp.asarray(packed), jnp.asarray(subject)) * upstream
        )

    gradient = jax.grad(loss)(state)
    weights = np.zeros((P, 3, V, F), np.float32)
    bias = np.zeros((P, 3, F), np.float32)
    for b in range(7):
        for p in range(P):
            weights[p, subject[b]] += np.outer(packed[b, p], upstream[b, p])
            bias[p, subject[b]] += upstream[b, p]
    np.testing.assert_allclose(gradient["weights"][...], weights, atol=1e-4)
    np.testing.assert_allclose(gradient["bias"][...], bias, atol=1e-4)
    # Subject 1 has no sample here: its bank learns nothing, to the bit.
    assert not np.any(gradient["weights"][...][:, 1]) and not np.any(gradient["bias"][...][:, 1])


def test_banks_are_cut_over_regions(banks):
    spec = partition("params/region_projection/weights", (200, 4, 626, 768), 8)
    assert tuple(spec) == ("fsdp",)
    assert tuple(partition("region_projection/bias", (200, 4, 768), 8)) == ("fsdp",)


def test_every_subject_starts_at_numbers_of_its_own(banks):
    weights = np.asarray(banks[0].weights[...])
    assert np.abs(weights).max() == pytest.approx((6 / (V + F)) ** 0.5, rel=1e-3)
    correlation = np.corrcoef(weights.swapaxes(0, 1).reshape(3, -1))
    assert np.abs(correlation - np.eye(3)).max() < 0.05


def test_a_network_per_region_is_two_linear_layers_of_its_own_around_a_gelu(rng):
    torch = pytest.importorskip("torch")
    mlp = RegionMLP(P, V, 7, F, rngs=nnx.Rngs(3))
    packed = rng.standard_normal((5, P, V)).astype(np.float32)
    ours = np.asarray(mlp(jnp.asarray(packed)))
    first, second = (
        [torch.from_numpy(np.array(x[...])) for x in (layer.weights, layer.bias)]
        for layer in (mlp.first, mlp.second)
    )
    for p in range(P):
        hidden = torch.from_numpy(packed[:, p]) @ first[0][p] + first[1][p]
        hidden = torch.nn.functional.gelu(hidden, approximate="tanh")
        np.testing.assert_allclose(ours[:, p], hidden @ second[0][p] + second[1][p], atol=1e-4)


def test_a_network_per_region_reads_its_own_subjects_layers(rng):
    mlp = RegionMLP(P, V, 7, F, num_subjects=2, rngs=nnx.Rngs(3))
    packed = jnp.asarray(rng.standard_normal((3, P, V)), jnp.float32)
    together = mlp(packed, jnp.array([1, 0, 1]))
    alone = [mlp.of_subject(u)(packed[i : i + 1]) for i, u in enumerate((1, 0, 1))]
    np.testing.assert_allclose(together, jnp.concatenate(alone), atol=1e-4)
