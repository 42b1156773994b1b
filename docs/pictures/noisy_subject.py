r"""Scores on everything that the noisy subject was tested with, as one table per kind of score.

    python docs/pictures/noisy_subject.py --model runs/shipped/neuroadapter-simulated \
        --encoder runs/shipped/brain-encoder-simulated --out runs/noisy

The test images, the sets that training never showed, and what was seen and imagined in
NSD-Imagery's form; beside NeuroAdapter's one candidate, and the best of eight, stand retrieval, a
linear readout of the same responses, and what tiny-sd makes of the true captions without any
response. Images are kept in --out by the content of model and encoder, so that a killed call goes
on. docs/noisy_subjects.md shows tables.md.
"""

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neuroadapter_jax import BrainEncoder, NeuroAdapterPipeline
from neuroadapter_jax.batches import map_batches
from neuroadapter_jax.cortex.packing import pack
from neuroadapter_jax.datasets.belonging import Origin, made_for
from neuroadapter_jax.datasets.input_pipeline import read_split
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.captions import caption_states
from neuroadapter_jax.decoders.linear_two_stage import LinearTwoStage
from neuroadapter_jax.decoders.retrieval import gallery_of_records, retrieve
from neuroadapter_jax.evaluation.linear_readout import fit_linear_readout
from neuroadapter_jax.evaluation.object_identity import objects_shown
from neuroadapter_jax.evaluation.scene_reader import read_scenes
from neuroadapter_jax.evaluation.simulated_truth import SimulatedTruth
from neuroadapter_jax.figures.grids import image_grid
from neuroadapter_jax.figures.pictures import save_picture
from neuroadapter_jax.files import write_json, write_text
from neuroadapter_jax.metrics.pixel_scores import pixel_scores
from neuroadapter_jax.metrics.recall import chance_recall, derangement, semantic_counts
from neuroadapter_jax.metrics.statistics import bootstrap_interval, bootstrap_ratio
from neuroadapter_jax.simulation.truth import load_truth
from neuroadapter_jax.tables import MISSING, interval_cell, markdown_table

BATCH = 20
ONE, CHOSEN, PERMUTED = "NeuroAdapter", "NeuroAdapter, best of 8", "… with permuted responses"
RETRIEVAL, READOUT = "Retrieval", "Linear readout"
CAPTIONS, AUTOENCODER = "tiny-sd from the true captions", "tiny-sd's autoencoder"
METHODS = (RETRIEVAL, READOUT, PERMUTED, ONE, CHOSEN, CAPTIONS, AUTOENCODER)
SCORES = {
    "semantic_recall": ("Semantic recall", ".1%"),
    "object_identity": ("Object identity", ".1%"),
    "two_way_pixels": ("Two-way identification by pixels", ".1%"),
    "pixel_correlation": ("Pixel correlation", ".3f"),
}


class TestSet(NamedTuple):
    """Prepared records, by the folder and the split, and where the truth of their images is."""

    title: str
    folder: str
    split: str
    truth: str


SETS = (
    TestSet("test images", "prepared", "test", "nsd"),
    TestSet("unseen objects", "unseen", "unseen_objects", "nsd/unseen"),
    TestSet("new combinations", "unseen", "new_combinations", "nsd/unseen"),
    TestSet("two of a category", "unseen", "same_category", "nsd/unseen"),
    TestSet("localizer", "unseen", "localizer", "nsd/unseen"),
    TestSet("targets, seen", "imagery", "vision", "nsd/imagery"),
    TestSet("targets, imagined", "imagery", "imagery", "nsd/imagery"),
)


class Readout:
    """Linear readouts of categories and of objects, fitted on the training images."""

    def __init__(self, subject: Path, pipeline: NeuroAdapterPipeline):
        train = PreparedDataset(subject / "prepared", "train")
        self._packing = pipeline.packing
        responses = read_split(train, "betas", of_betas=lambda x: pack(x, self._packing))["betas"]
        truth = load_truth(subject / "nsd", 1)
        self._fitted = {
            what: fit_linear_readout(responses, truth[what][train.image_ids], len(truth[names]))
            for what, names in (("categories", "category_names"), ("objects", "object_names"))
        }

    def __call__(self, fmri: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Category, and object where there is one, per slot."""
        packed = np.asarray(pack(fmri, self._packing))
        categories = self._fitted["categories"].read(packed)
        return categories, self._fitted["objects"].read(packed, may_be_empty=False)


def methods_images(
    data: dict[str, np.ndarray], ids: np.ndarray, captions: list[str], tools: dict[str, Any]
) -> dict[str, Callable[[], np.ndarray]]:
    """How each method makes the images of a test set."""
    pipeline, encoder, fmri = tools["pipeline"], tools["encoder"], data["betas"]
    sampling = pipeline.sampling.replace(sampler="dpmsolver++", num_steps=tools["num_steps"])

    def decoded(responses: np.ndarray, **options: Any) -> np.ndarray:
        def images(rows: np.ndarray) -> np.ndarray:
            found = pipeline(responses[rows], sampling, sample_ids=ids[rows], **options)
            return np.asarray(found)[:, 0]

        return map_batches(images, len(responses), min(BATCH, len(responses)))

    def from_captions() -> np.ndarray:
        states = caption_states(pipeline.backbone, [[caption] for caption in captions])
        # In the place of a linear map from responses: a "response" is the number of the image.
        decoder = LinearTwoStage(
            pipeline.backbone, pipeline.regions, lambda x: states[x[:, 0].astype(int)]
        )
        numbers = np.repeat(np.arange(len(ids))[:, None], fmri.shape[1], axis=1).astype(np.float32)

        def images(rows: np.ndarray) -> np.ndarray:
            return decoder(numbers[rows], sampling, sample_ids=ids[rows])[:, 0]

        return map_batches(images, len(ids), min(BATCH, len(ids)))

    def retrieved() -> np.ndarray:
        # Ids of other experiments are other images; what is shown there is no training image.
        apart = ids if tools["test"] else ids + 1_000_000
        known = (fmri, data["image"], apart, pipeline.regions)
        return tools["gallery"].read(retrieve(encoder, tools["gallery"], *known).rows)

    def autoencoded() -> np.ndarray:
        scaled = pipeline.backbone.vae.config.scaling_factor * data["latent_mean"]
        return map_batches(
            lambda rows: pipeline.decode(scaled[rows]), len(ids), min(BATCH, len(ids))
        )

    made = {
        RETRIEVAL: retrieved,
        ONE: lambda: decoded(fmri, num_candidates=1),
        CHOSEN: lambda: decoded(fmri, num_candidates=8, encoder=encoder),
        CAPTIONS: from_captions,
        AUTOENCODER: autoencoded,
    }
    if tools["test"]:
        made[PERMUTED] = lambda: decoded(fmri[derangement(len(fmri))], num_candidates=1)
    return made


def scores_of(
    images: np.ndarray, stimuli: np.ndarray, truth: SimulatedTruth
) -> dict[str, dict[str, Any]]:
    """Value and interval of each of `SCORES`, and the exact chance of the recall."""
    counts, pixels = truth.counts(images), pixel_scores(stimuli, images)
    found = {name: bootstrap_ratio(*sums) for name, sums in counts.items()}
    found |= {name: bootstrap_interval(pixels[name]) for name in SCORES if name in pixels}
    read = read_scenes(truth.reader, images)
    found["semantic_recall"]["chance"] = chance_recall(read, truth.categories)
    return found


def score_set(which: TestSet, subject: Path, out: Path, num: int | None, tools: dict[str, Any]):
    """Scores of each method on one test set; its images are kept in `out`."""
    dataset = PreparedDataset(subject / which.folder, which.split)
    data = read_split(dataset, "betas", "image", "latent_mean", num_images=num)
    data["betas"] = data["betas"].astype(np.float32)
    ids = dataset.image_ids[: len(data["image"])]
    truth = SimulatedTruth.load(subject / which.truth, ids)
    captions = [str(text) for text in load_truth(subject / which.truth)["captions"][ids]]
    tools = {**tools, "test": which.folder == "prepared"}
    found, rows = {}, {"Stimulus": data["image"]}
    wanted = methods_images(data, ids, captions, tools)
    for name, make in wanted.items():
        if name not in tools["methods"]:
            continue
        path = out / f"{which.split}-{hashlib.md5(name.encode()).hexdigest()[:6]}-{len(ids)}.npy"
        if not path.is_file():
            print(f"{which.title}: {name}", flush=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, make())
        rows[name] = np.load(path)
        found[name] = scores_of(rows[name], data["image"], truth)
    categories, objects = tools["readout"](data["betas"])
    hits = {
        "semantic_recall": semantic_counts(categories, truth.categories)[:2],
        "object_identity": semantic_counts(objects, objects_shown(truth.scenes))[:2],
    }
    found[READOUT] = {name: bootstrap_ratio(*sums) for name, sums in hits.items()}
    found[READOUT]["semantic_recall"]["chance"] = chance_recall(categories, truth.categories)
    save_picture(out / f"{which.split}.png", image_grid({k: v[:10] for k, v in rows.items()}))
    return {"images": len(ids), "objects": int(hits["semantic_recall"][1].sum()), "methods": found}


def tables(results: dict[str, Any]) -> str:
    """A table per score, a row per method, a column per test set."""
    head = ["", *(f"{title} ({found['images']})" for title, found in results.items())]
    parts = []
    for score, (title, form) in SCORES.items():
        rows = []
        for method in METHODS:
            cells = [found["methods"].get(method, {}).get(score) for found in results.values()]
            row = [interval_cell(cell, form) for cell in cells]
            if set(row) != {MISSING}:
                rows.append([method, *row])
        if score == "semantic_recall":
            for method in (READOUT, ONE):
                chances = [each["methods"].get(method, {}).get(score) for each in results.values()]
                cells = [MISSING if each is None else f"{each['chance']:.1%}" for each in chances]
                rows.append([f"chance, of the readings of {method}", *cells])
        parts.append(f"{title}:\n\n{markdown_table(head, rows)}")
    return "\n".join(parts)


def main() -> None:
    """Read the flags, score every set, write results.json and tables.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subject", type=Path, default=Path("runs/nsd_like/subj01"))
    parser.add_argument("--model", default="neuroadapter-simulated")
    parser.add_argument("--encoder", default="brain-encoder-simulated")
    parser.add_argument("--num_steps", type=int, default=8)
    parser.add_argument("--num_images", type=int, help="the first so many of each set")
    parser.add_argument("--sets", nargs="+", default=[each.split for each in SETS])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--out", type=Path, default=Path("runs/noisy"))
    given = parser.parse_args()
    pipeline = NeuroAdapterPipeline.from_pretrained(given.model)
    train = PreparedDataset(given.subject / "prepared", "train")
    made_for(Origin.of("the model", pipeline.provenance), train.origin, None)
    encoder = None
    if {RETRIEVAL, CHOSEN} & set(given.methods):
        encoder = BrainEncoder.from_pretrained(given.encoder)
    tools = {
        "pipeline": pipeline,
        "encoder": encoder,
        "num_steps": given.num_steps,
        "methods": given.methods,
        "readout": Readout(given.subject, pipeline),
        "gallery": gallery_of_records(train),
    }
    known = f"{pipeline.fingerprint[-8:]}-{given.num_steps}"
    if encoder is not None:
        known += f"-{encoder.fingerprint[-8:]}"
    folder = given.out / known
    results = {
        each.title: score_set(each, given.subject, folder, given.num_images, tools)
        for each in SETS
        if each.split in given.sets
    }
    write_json(given.out / "results.json", results)
    write_text(given.out / "tables.md", tables(results))
    print(tables(results))


if __name__ == "__main__":
    main()
