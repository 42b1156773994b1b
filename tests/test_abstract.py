import jax
import pytest
from flax import nnx

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.diffusion.config_files import component_config
from neuroadapter_jax.diffusion.text_encoder import CLIPTextConfig, CLIPTextModel
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.diffusion.weights import ASSETS

UNET = component_config(ASSETS / "tiny-sd", "unet")
TEXT = CLIPTextConfig(29, 8, 13, 2, 2, 11)


@pytest.mark.parametrize(("cls", "config"), [(UNet2DConditionModel, UNET), (CLIPTextModel, TEXT)])
def test_shapes_types_and_structure_are_those_that_flax_finds(cls, config):
    found = abstract_network(lambda rngs: cls(config, rngs=rngs))
    expected = nnx.eval_shape(lambda: cls(config, rngs=nnx.Rngs(0)))
    assert nnx.graphdef(found) == nnx.graphdef(expected)
    ours, truth = (jax.tree.leaves(nnx.state(network)) for network in (found, expected))
    assert ours == truth and len(ours) > 10
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in ours)
