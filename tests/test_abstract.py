import jax
import pytest
from flax import nnx

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.diffusion.text_encoder import CLIPTextConfig, CLIPTextModel
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig

UNET = UNetConfig(
    sample_size=8,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    block_out_channels=(6, 12),
    layers_per_block=1,
    cross_attention_dim=7,
    attention_head_dim=3,
    norm_num_groups=3,
)
TEXT = CLIPTextConfig(29, 8, 13, 2, 2, 11)


@pytest.mark.parametrize(("cls", "config"), [(UNet2DConditionModel, UNET), (CLIPTextModel, TEXT)])
def test_shapes_types_and_structure_are_those_that_flax_finds(cls, config):
    found = abstract_network(lambda rngs: cls(config, rngs=rngs))
    expected = nnx.eval_shape(lambda: cls(config, rngs=nnx.Rngs(0)))
    assert nnx.graphdef(found) == nnx.graphdef(expected)
    ours, truth = (jax.tree.leaves(nnx.state(network)) for network in (found, expected))
    assert ours == truth and len(ours) > 10
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in ours)
