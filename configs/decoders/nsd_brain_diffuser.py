"""Brain-Diffuser on NSD, with its published sampling and its ablation. NOT RUN: NSD is not here.

    neuroadapter decoders $(python configs/decoders/nsd_brain_diffuser.py)

prints the flags of the command from the values below. The shapes of all its parts are tested on
networks without arrays. The map to CLIP's 257 x 1,280 numbers takes 20 GB of float32 for 15,000
vertices. Files: an exported NeuroAdapter of the subject, which gives regions and backbone; records
of `neuroadapter prepare --config nsd`; COCO's captions; ip-adapter-plus_sd15.safetensors and the
image encoder beside it (h94/IP-Adapter on the Hub, models/image_encoder).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = "runs/nsd/model"
    config.prepared = "runs/nsd/prepared"
    config.nsd_root = "NSD"
    config.captions = "captions_train2017.json,captions_val2017.json"
    config.image_adapter = "IP-Adapter/models/ip-adapter-plus_sd15.safetensors"
    config.image_encoder = "IP-Adapter/models/image_encoder"
    config.methods = ",".join(
        (
            "brain_diffuser",
            "brain_diffuser_without_vision",
            "brain_diffuser_without_text",
            "brain_diffuser_without_low_level",
            "brain_diffuser_rescaled_on_test",
            "true_embedding",
            "autoencoder",
        )
    )
    config.preset = "brain_diffuser"
    config.batch_size = 8
    config.out = "runs/nsd/decoders"
    return config


if __name__ == "__main__":
    print(" ".join(f"--{key}={value}" for key, value in get_config().items()))
