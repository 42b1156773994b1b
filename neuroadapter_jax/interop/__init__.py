"""The released PyTorch code's checkpoints, and diffusers: the way in and out."""

from neuroadapter_jax.interop.ip_adapter import save_ip_adapter
from neuroadapter_jax.interop.released import load_released, save_released, slot_regions

__all__ = ["load_released", "save_ip_adapter", "save_released", "slot_regions"]
