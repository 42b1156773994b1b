"""Make anew what ships of a simulated subject as noisy as NSD's: models, responses and cards.

    python docs/pictures/shipped_models.py --out runs/shipped
    python docs/pictures/shipped_models.py --out runs/shipped --install

An adapter, a brain encoder, eight responses and their cards, as folders in --out; --install puts
them into the package. What is trained or reconstructed already is not done again. --as_it_is takes
the best checkpoint of an adapter's training that has not ended. docs/noisy_subjects.md shows the
scores, which docs/pictures/noisy_subject.py makes of the models.
"""

import argparse
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neuroadapter_jax import BrainEncoder, NeuroAdapterPipeline
from neuroadapter_jax.commands.stages import run_stage
from neuroadapter_jax.diffusion.weights import ASSETS
from neuroadapter_jax.files import write_text
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.studies.first_pictures import write_shipped_responses

ADAPTER, ENCODER, RESPONSES = (
    "neuroadapter-simulated",
    "brain-encoder-simulated",
    "simulated-responses",
)
ENCODER_CARD = """# brain-encoder-simulated: a brain encoder for the adapter that ships

Predicts the responses of the demo's simulated subject to an image, in the 80 regions that
`neuroadapter-simulated` reads, so that candidates can be ranked without a training of one's own.
It reads `tiny-vit`. Weights are float16.

It is the encoder of `neuroadapter train-encoder --config encoder_demo:nsd_like` ({steps} steps of
{batch} single trials), of which the other 560 regions are left out.
`docs/pictures/shipped_models.py` made it.

The whole encoder, by `neuroadapter evaluate-encoder` on the subject's {images} test images, three
trials averaged, has a median correlation of {correlation:.2f} over the {vertices:,} vertices with
a noise ceiling above {least:g}, where the median ceiling is {ceiling:.2f}. The part that ships
ranks by its regions as the whole does.

config.json holds every setting of the training and the fingerprints of its data.
"""
RESPONSES_CARD = """# simulated-responses: eight responses for the first pictures

Prepared records of the first eight test images of the demo's simulated subject, subject 1 of
`--config nsd_like`: each scene, three repeats of the response of 20,484 vertices of fsaverage5,
and tiny-sd's latents. `neuroadapter-simulated` was trained on 2,300 other images of the same
subject. `rois.json` names the subject's ROIs as lists of that adapter's regions. `neuroadapter
demo --quick` reconstructs and interprets them. `docs/pictures/shipped_models.py` wrote them.

The scenes are composed of OpenMoji artwork (openmoji.org), CC BY-SA 4.0, and under that licence.
"""
ADAPTER_END = """
Tokens are dropped with probability 0.1 each, not at the paper's rate, which is uniform from 0 to
1 and drops half of them: what that costs in an hour of training is in `docs/design.md`.
`docs/pictures/shipped_models.py` made this folder.
"""


def export_adapter(subject: Path, out: Path, stage: Any) -> None:
    """Export the adapter's best checkpoint, score it, and export it again with its scores."""
    bare, own, permuted = out / "bare", out / "own", out / "permuted"
    export = ["--run", str(subject / "train"), "--half"]
    stage(bare / "config.json", "export", *export, "--out", str(bare))
    known = ["--model", str(bare), "--prepared", str(subject / "prepared")]
    sampling = ["--sampler", "dpmsolver++", "--num_steps", "19"]
    for folder, more in ((own, []), (permuted, ["--permute_responses"])):
        made = [*known, *sampling, *more, "--out", str(folder)]
        stage(folder / "index.json", "reconstruct", *made)
    root = ["--root", str(subject / "nsd"), "--permuted", str(permuted)]
    stage(own / "results.json", "evaluate", str(own), *known, *root)
    scores = ["--results", str(own), "--out", str(out / ADAPTER)]
    stage(out / ADAPTER / "config.json", "export", *export, *scores)
    card = out / ADAPTER / "README.md"
    if ADAPTER_END not in (text := card.read_text(encoding="utf-8")):
        write_text(card, text + ADAPTER_END)


def export_encoder(subject: Path, out: Path, stage: Any) -> None:
    """The part of the encoder that predicts the adapter's regions, with its accuracy."""
    folder, model = out / ENCODER, subject / "encoder" / "model"
    if not folder.is_dir():
        regions = NeuroAdapterPipeline.from_pretrained(out / ADAPTER).regions
        BrainEncoder.from_pretrained(model).of_regions(regions).save_pretrained(folder, np.float16)
    accuracy = out / "accuracy"
    known = ["--encoder", str(model), "--prepared", str(subject / "prepared")]
    known += ["--root", str(subject / "nsd"), "--out", str(accuracy)]
    stage(accuracy / "accuracy.json", "evaluate-encoder", *known)
    found = read_json(accuracy / "accuracy.json", "the accuracy of a brain encoder")
    training = BrainEncoder.from_pretrained(folder).provenance["training"]
    card = ENCODER_CARD.format(
        steps=training["num_steps"],
        batch=training["batch_size"],
        images=found["num_images"],
        correlation=found["predictable"]["correlation"],
        vertices=found["predictable"]["num_vertices"],
        least=found["least_ceiling"],
        ceiling=found["predictable"]["ceiling"],
    )
    write_text(folder / "README.md", card)


def main() -> None:
    """Read the flags and make every folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subject", type=Path, default=Path("runs/nsd_like/subj01"))
    parser.add_argument("--out", type=Path, default=Path("runs/shipped"))
    parser.add_argument("--as_it_is", action="store_true", help="do not train the adapter on")
    parser.add_argument("--install", action="store_true", help="replace the package's folders")
    given = parser.parse_args()
    subject, out = given.subject, given.out
    out.mkdir(parents=True, exist_ok=True)
    stage = partial(run_stage, out / "seconds.json")
    stage(subject / "prepared" / "provenance.json", "prepare", "--config", "nsd_like")
    if not given.as_it_is:
        trained = ["--config", "simulated:nsd_like", "--workdir", str(subject / "train")]
        stage(out / "bare" / "config.json", "train", *trained)
    encoder = ["--config", "encoder_demo:nsd_like", "--workdir", str(subject / "encoder")]
    stage(subject / "encoder" / "model" / "config.json", "train-encoder", *encoder)
    export_adapter(subject, out, stage)
    export_encoder(subject, out, stage)
    if not (out / RESPONSES).is_dir():
        write_shipped_responses(
            subject / "prepared", subject / "nsd", out / RESPONSES, model=out / ADAPTER
        )
    write_text(out / RESPONSES / "README.md", RESPONSES_CARD)
    if given.install:
        for name in (ADAPTER, ENCODER, RESPONSES):
            shutil.rmtree(ASSETS / name)
            shutil.copytree(out / name, ASSETS / name)
            print(f"Installed: {ASSETS / name}")


if __name__ == "__main__":
    main()
