"""What the released PyTorch code computes, written again, with the released tensor names."""

import pytest

pytest.importorskip("torch")
import torch


def _heads(x, count):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


class _TextAttention(torch.nn.Module):
    """Attention to the states themselves or to a context; the released self-attention."""

    def forward(self, layer, x, encoder_hidden_states=None, **_):
        context = x if encoder_hidden_states is None else encoder_hidden_states
        out, _ = self.attend(layer, x, layer.to_k(context), layer.to_v(context))
        return layer.to_out[0](out)

    @staticmethod
    def attend(layer, x, keys, values):
        q, k, v = (_heads(y, layer.heads) for y in (layer.to_q(x), keys, values))
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
        return (weights @ v).transpose(1, 2).flatten(2), weights


class _BrainAttention(_TextAttention):
    """Text and brain tokens share one sequence; the last `num_tokens` are the brain's."""

    def __init__(self, width, context_width, num_tokens):
        super().__init__()
        self.num_tokens = num_tokens
        self.to_k_ip = torch.nn.Linear(context_width, width, bias=False)
        self.to_v_ip = torch.nn.Linear(context_width, width, bias=False)

    def forward(self, layer, x, encoder_hidden_states=None, **_):
        text, brain = encoder_hidden_states.tensor_split([-self.num_tokens], dim=1)
        out, _ = self.attend(layer, x, layer.to_k(text), layer.to_v(text))
        reconstructions, self.stimuli = self.attend(
            layer, x, self.to_k_ip(brain), self.to_v_ip(brain)
        )
        return layer.to_out[0](out + reconstructions)


class ImageProjModel(torch.nn.Module):
    def __init__(self, condition_dim, width):
        super().__init__()
        self.proj = torch.nn.Linear(condition_dim, width)
        self.norm = torch.nn.LayerNorm(width)

    def forward(self, tokens):
        return self.norm(self.proj(tokens))


class ParcelMapper(torch.nn.Module):
    def __init__(self, num_parcels, max_voxels, width):
        super().__init__()
        self.linear_weights = torch.nn.Parameter(torch.empty(num_parcels, max_voxels, width))
        self.linear_bias = torch.nn.Parameter(torch.empty(num_parcels, width))

    def forward(self, packed):
        each = [x @ w for x, w in zip(packed.unbind(1), self.linear_weights, strict=True)]
        return torch.stack(each, dim=1) + self.linear_bias


class GuidanceGenerator(torch.nn.Module):
    """The linear variant: nothing but the parcel mapper."""

    def __init__(self, num_parcels, max_voxels, width):
        super().__init__()
        self.parcel_mapper = ParcelMapper(num_parcels, max_voxels, width)

    def forward(self, packed):
        return self.parcel_mapper(packed)


class Model(torch.nn.Module):
    """The released model over a diffusers U-Net, whose processors it replaces."""

    def __init__(self, unet, num_tokens, condition_dim=None):
        super().__init__()
        width = unet.config.cross_attention_dim
        processors = {}
        for name in unet.attn_processors:
            layer = unet.get_submodule(name.removesuffix(".processor"))
            processors[name] = (
                _BrainAttention(layer.to_q.out_features, width, num_tokens)
                if name.endswith("attn2.processor")
                else _TextAttention()
            )
        unet.set_attn_processor(processors)
        self.unet = unet
        self.image_proj_model = ImageProjModel(condition_dim or width, width)
        self.adapter_modules = torch.nn.ModuleList(unet.attn_processors.values())

    def forward(self, latents, timesteps, text, tokens):
        states = torch.cat([text.expand(len(latents), -1, -1), self.image_proj_model(tokens)], 1)
        return self.unet(latents, timesteps, encoder_hidden_states=states).sample

    def attention(self):
        """{layer: [b, h, q, p]} of the last call."""
        return {
            name.removesuffix(".processor"): processor.stimuli
            for name, processor in self.unet.attn_processors.items()
            if isinstance(processor, _BrainAttention)
        }


def write_checkpoint(folder, model, bank, prefix=""):
    """As the released run saves it through accelerate; parallel training prefixes every name."""
    folder.mkdir(parents=True)
    for name, module in (("pytorch_model", model), ("pytorch_model_1", bank)):
        tensors = {prefix + key: value for key, value in module.state_dict().items()}
        torch.save(tensors, folder / f"{name}.bin")
    return folder
