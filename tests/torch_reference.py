"""Random PyTorch networks as an independent truth, and what carries their weights to Flax."""

from collections.abc import Callable

import numpy as np
import pytest
from flax import nnx

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.diffusion.weights import from_tensors

pytest.importorskip("torch")
import torch

TOLERANCE = 1e-4


def randomise(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Draws every parameter, so that no norm is the identity and no bias is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            elif name.endswith("weight"):
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_(0.3 * noise)
    return module.eval().requires_grad_(False)


def numpy_tensors(module: torch.nn.Module, prefix: str = "") -> dict[str, np.ndarray]:
    return {prefix + name: value.numpy() for name, value in module.state_dict().items()}


def carried(make: Callable[[nnx.Rngs], nnx.Module], reference: torch.nn.Module) -> nnx.Module:
    """The Flax module with the weights of the PyTorch one, by the package's own strict rule."""
    abstract = abstract_network(make)
    return from_tensors(abstract, numpy_tensors(reference), "reference", np.float32)


def nchw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def nhwc(x: torch.Tensor) -> np.ndarray:
    return np.moveaxis(x.numpy(), 1, -1)


def assert_close(ours, truth, tolerance: float = TOLERANCE) -> None:
    """Agreement to a fraction of the truth's root mean square."""
    ours, truth = np.asarray(ours), np.asarray(truth)
    assert ours.shape == truth.shape
    assert ours.dtype == np.float32
    scale = np.sqrt(np.mean(np.square(truth, dtype=np.float64)))
    assert scale > 0
    np.testing.assert_allclose(ours / scale, truth / scale, rtol=0, atol=tolerance)
