"""torchvision as an independent truth, and its networks at random weights as checkpoints."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
import torch

# Where the Makefile puts a build of torchvision that is for another PyTorch than the one here.
APART = Path(sys.prefix) / "torchvision"
_declared = []


def torchvision():
    """The package; the test is skipped where there is none.

    A build for CUDA finds its operators neither loaded nor declared beside a CPU build of PyTorch.
    The networks need none of them, so it is enough to declare those that it asks for.
    """
    try:
        import torchvision
    except ImportError:
        if not APART.is_dir():
            pytest.skip("torchvision is not installed")
        if not _declared:
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")
            _declared.append(library)
            sys.path.append(str(APART))
        import torchvision
    return torchvision


def random_checkpoints(folder: Path, swav_name: str) -> dict[str, torch.nn.Module]:
    """Networks with random weights and statistics, and their files under the published names."""
    models = torchvision().models
    networks = {
        "alexnet": (models.alexnet, models.AlexNet_Weights.IMAGENET1K_V1),
        "inception": (models.inception_v3, models.Inception_V3_Weights.IMAGENET1K_V1),
        "effnet": (models.efficientnet_b1, models.EfficientNet_B1_Weights.IMAGENET1K_V2),
        "swav": (models.resnet50, None),
    }
    made = {}
    for seed, (name, (build, entry)) in enumerate(networks.items()):
        with torch.device("meta"):
            # transform_input is what torchvision switches on for these very weights.
            options = {"transform_input": True, "init_weights": False}
            model = build(**options if name == "inception" else {})
            if name == "alexnet":  # 235 MB that nothing reads
                model.classifier = torch.nn.Identity()
        model = _drawn(model.to_empty(device="cpu"), seed)
        tensors = model.state_dict()
        if name == "swav":
            tensors = {f"module.{x}": v for x, v in tensors.items() if not x.startswith("fc.")}
            tensors["module.prototypes.weight"] = torch.zeros(3, 2)
        path = swav_name if entry is None else entry.url.rsplit("/", 1)[-1]
        torch.save(tensors, folder / path)
        made[name] = model
    return made


def _drawn(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights that keep the variance through ReLUs, and statistics of the network's own.

    Norms see what passes through them once: otherwise the features of all images of a deep random
    network are nearly one and the same, and say nothing of how images are compared.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim > 1:
            value.copy_(noise * np.sqrt(2 / value[0].numel()))
        elif value.ndim == 1 and name.endswith("weight"):
            value.copy_(1 + 0.2 * noise.abs())
        elif value.ndim == 1:
            value.copy_(0.2 * noise)
        else:
            value.zero_()
    model.eval().requires_grad_(False)
    norms = [x for x in model.modules() if isinstance(x, torch.nn.BatchNorm2d)]
    if norms:
        coarse = torch.randn((8, 3, 6, 6), generator=generator)
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        with torch.inference_mode():
            model(torch.nn.functional.interpolate(coarse, (128, 128)))
    return model.eval()
