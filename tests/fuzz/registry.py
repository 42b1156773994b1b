"""Every reader of the package, with small valid files for it.

Checksums: npz (zip), png, mgz (gzip), the record files and PyTorch's archives have them. Label
files, mgh, npy, HDF5, safetensors, tables and JSON have none, so that a changed byte among their
numbers is another number, which no reader can tell; they vouch for the kind of what they return.
"""

import csv
import dataclasses
import functools
import gzip
import json
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import bdata_files
import bold5000_tree
import h5py
import imagery_tree
import jax.numpy as jnp
import mosaic_tree
import nibabel
import nsd_tree
import numpy as np
import PIL.Image
import tiny_backbone
import tiny_pipeline
import tiny_prepared
from outcome import Reader

from neuroadapter_jax.adapter.decoupled_attention import cross_attention_shapes
from neuroadapter_jax.adapter.image_adapter import ImageAdapter, ResamplerConfig
from neuroadapter_jax.adapter.image_adapter_files import load_image_adapter, save_image_adapter
from neuroadapter_jax.cortex.label_files import read_parcellation
from neuroadapter_jax.cortex.label_formats import read_surface_values
from neuroadapter_jax.cortex.label_tables import read_label_table
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.cortex.roi import read_rois
from neuroadapter_jax.cortex.shown_surface import ShownSurface
from neuroadapter_jax.datasets.algonauts import Algonauts2023
from neuroadapter_jax.datasets.bold5000 import BOLD5000
from neuroadapter_jax.datasets.deeprecon import Deeprecon
from neuroadapter_jax.datasets.derived import DerivedNSD
from neuroadapter_jax.datasets.mosaic import Mosaic
from neuroadapter_jax.datasets.nsd.imagery import NSDImagery
from neuroadapter_jax.datasets.nsd.subject import NSDSubject
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.datasets.prepared.shards import verify_checksums
from neuroadapter_jax.datasets.prepared.shares import Share, collect, note_done
from neuroadapter_jax.datasets.prepared.work import do_units
from neuroadapter_jax.datasets.repeats import RepeatVariance
from neuroadapter_jax.datasets.unseen import SimulatedUnseen
from neuroadapter_jax.decoders.captions import read_captions
from neuroadapter_jax.decoders.linear_map import LinearMap
from neuroadapter_jax.decoders.low_level_start import load_low_level_start
from neuroadapter_jax.decoders.retrieval import gallery_of_folder
from neuroadapter_jax.diffusion.lora_files import read_lora
from neuroadapter_jax.diffusion.spatial_adapter import SpatialAdapter, SpatialAdapterConfig
from neuroadapter_jax.diffusion.spatial_adapter_files import (
    load_spatial_adapter,
    save_spatial_adapter,
)
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.weights import (
    ASSETS,
    abstract_component,
    load_component,
    load_pretrained,
    load_safetensors,
    load_schedule,
    to_tensors,
    write_safetensors,
)
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.encoder.clip_vision import (
    CLIPVisionConfig,
    CLIPVisionModel,
    load_clip_vision,
)
from neuroadapter_jax.encoder.joint_space import (
    JointSpace,
    JointSpaceConfig,
    read_joint_space,
    save_joint_space,
)
from neuroadapter_jax.encoder.weights import load_dinov2
from neuroadapter_jax.evaluation import card_scores, load_score_summary
from neuroadapter_jax.evaluation.results import read_per_image, read_results
from neuroadapter_jax.evaluation.scene_reader import ASSET as SCENE_READER
from neuroadapter_jax.evaluation.scene_reader import load_scene_reader
from neuroadapter_jax.evaluation.score_files import file_scores
from neuroadapter_jax.hub.cards import CardDetails
from neuroadapter_jax.hub.kinds import ADAPTER
from neuroadapter_jax.hub.publishing import prepare_publication
from neuroadapter_jax.interop.image_tensors import read_image_ids, read_image_stack
from neuroadapter_jax.pipeline import load_reconstructions, load_views, saving
from neuroadapter_jax.readers import read_json, read_npy, read_npz, read_rgb
from neuroadapter_jax.simulation.truth import load_truth, read_configuration
from neuroadapter_jax.studies.ablation.scores import ImageScores
from neuroadapter_jax.studies.interpretation import ROISource
from neuroadapter_jax.studies.resume import cached
from neuroadapter_jax.training.metrics_log import read_metrics
from neuroadapter_jax.training.run_config import RunConfig

OLDER = Path(__file__).parents[1] / "older_versions" / "v0_1_0"
READERS: list[Reader] = []


def reader(name, make, *files, **options):
    """Adds the decorated function, which reads a folder, to the list."""

    def add(read):
        READERS.append(Reader(name, make, read, files or ("*",), **options))
        return read

    return add


def rng():
    return np.random.default_rng(19)


def older(name):
    """Writes a folder of version 0.1.0."""

    def make(folder):
        archive = OLDER / f"{name}.tar.xz"
        if archive.is_file():
            shutil.unpack_archive(archive, folder, filter="data")
        else:
            shutil.copytree(OLDER / name, folder / name)

    return make


# The cortex


def of_regions(found: Parcellation):
    return [list(found.names), list(found.hemispheres), list(found.vertices), found.num_vertices]


def write_annots(folder):
    colours = np.array([[1, 1, 1, 0, 0], [9, 20, 30, 0, 0], [60, 5, 70, 0, 0]])
    for side, count in (("lh", 31), ("rh", 29)):
        labels = rng().integers(0, 3, count + ord(side[0]))[-count:]
        names = ["Unknown", f"{side}_V1", f"{side}_V2"]
        nibabel.freesurfer.write_annot(folder / f"{side}.a.annot", labels, colours, names)


@reader("annot", write_annots)
def read_annots(folder):
    return of_regions(read_parcellation(folder / "lh.a.annot", folder / "rh.a.annot"))


def write_giftis(folder):
    for side, count in (("L", 31), ("R", 29)):
        table = nibabel.gifti.GiftiLabelTable()
        for key, name in enumerate(("???", f"{side}_V1", f"{side}_V2")):
            label = nibabel.gifti.GiftiLabel(key, 0.1 * key, 0.5, 0.2, 1.0)
            label.label = name
            table.labels.append(label)
        values = rng().integers(0, 3, count + ord(side))[-count:].astype(np.int32)
        array = nibabel.gifti.GiftiDataArray(values, intent="NIFTI_INTENT_LABEL")
        image = nibabel.gifti.GiftiImage(labeltable=table, darrays=[array])
        nibabel.save(image, folder / f"{side}.label.gii")


@reader("gifti", write_giftis)
def read_giftis(folder):
    return of_regions(read_parcellation(folder / "L.label.gii", folder / "R.label.gii"))


def write_mgh(path, values):
    image = nibabel.MGHImage(values.reshape(-1, 1, 1), np.eye(4))
    path.write_bytes(gzip.compress(image.to_bytes()) if path.suffix == ".mgz" else image.to_bytes())


def write_mgzs(folder):
    for side, count in (("lh", 31), ("rh", 29)):
        labels = rng().integers(0, 3, count + ord(side[0]))[-count:].astype(np.int32)
        write_mgh(folder / f"{side}.V.mgz", labels)
    (folder / "V.mgz.ctab").write_text("0 Unknown\n1 V1 1 2 3 0\n2 V2 4 5 6 0\n")


@reader("mgz with its table", write_mgzs, checksums=("*.mgz",), rows=("*.ctab",))
def read_mgzs(folder):
    return of_regions(read_parcellation(folder / "lh.V.mgz", folder / "rh.V.mgz"))


@reader("ROIs", write_mgzs, checksums=("*.mgz",), rows=("*.ctab",))
def read_rois_of_labels(folder):
    return read_rois(folder, None, ("V",))


@reader("label table", write_mgzs, "*.ctab", rows=("*.ctab",))
def read_table(folder):
    return read_label_table(folder / "V.mgz.ctab")


@reader("mgh", lambda folder: write_mgh(folder / "a.mgh", rng().random(29, np.float32)))
def read_mgh(folder):
    return read_surface_values(folder / "a.mgh")


def write_meshes(folder):
    points, faces = rng().random((31, 3)), rng().integers(0, 31, (29, 3)).astype(np.int32)
    nibabel.freesurfer.write_geometry(folder / "lh.inflated", points, faces)
    nibabel.freesurfer.write_morph_data(folder / "lh.sulc", rng().random(31))
    arrays = [
        nibabel.gifti.GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
        nibabel.gifti.GiftiDataArray(faces, intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nibabel.save(nibabel.GiftiImage(darrays=arrays), folder / "rh.surf.gii")


@reader("meshes", write_meshes, optional=("lh.sulc",))
def read_meshes(folder):
    found = ShownSurface.from_files((folder / "lh.inflated", folder / "rh.surf.gii"))
    return [[side.mesh.points, side.mesh.faces, side.depth] for side in found.hemispheres]


@reader("regions", lambda f: tiny_pipeline.make_regions().save(f / "r.npz"), checksums=("*",))
def read_regions(folder):
    return of_regions(Parcellation.load(folder / "r.npz"))


# Models


@reader("text encoder", tiny_backbone.write_backbone_once, "text_encoder/*", share=0.2)
def read_text_encoder(folder):
    return to_tensors(load_component(folder, "text_encoder"))


@reader("U-Net", tiny_backbone.write_backbone_once, "unet/*", share=0.1)
def read_unet(folder):
    return to_tensors(load_component(folder, "unet"))


@reader("VAE", tiny_backbone.write_backbone_once, "vae/config.json", share=0.1)
def read_vae(folder):
    return to_tensors(load_component(folder, "vae"))


@reader("scheduler", tiny_backbone.write_backbone_once, "scheduler_config.json")
def read_schedule(folder):
    schedule = load_schedule(folder)
    return [schedule.num_train_timesteps, schedule.beta_start, schedule.prediction_type]


def write_tokenizer(folder):
    for path in (ASSETS / "tiny-sd" / "tokenizer").iterdir():
        shutil.copy(path, folder)


@reader("tokenizer", write_tokenizer, "vocab.json", "merges.txt", "tokenizer_config.json")
def read_tokenizer(folder):
    return CLIPTokenizer(folder)(["a red cat under the sky", ""])


def write_weights(folder):
    from safetensors.numpy import save_file

    save_file({"a": rng().random((3, 5), np.float32), "b": np.ones(7, np.float16)}, folder / "w")
    (folder / "w").rename(folder / "w.safetensors")


@reader("safetensors", write_weights)
def read_weights(folder):
    return load_safetensors(folder / "w.safetensors")


def write_lora_file(folder):
    from safetensors.numpy import save_file

    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    parts = {"A": rng().random((2, 128), np.float32), "B": rng().random((128, 2), np.float32)}
    metadata = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 3})}
    tensors = {f"{name}.lora_{part}.weight": x for part, x in parts.items()}
    save_file(tensors, folder / "w", metadata)
    (folder / "w").rename(folder / "w.safetensors")


@reader("LoRA", write_lora_file)
def read_lora_file(folder):
    unet = abstract_component(ASSETS / "tiny-sd", "unet")
    lora = read_lora(folder / "w.safetensors", unet)
    arrays = [np.asarray(x) for part in (lora.down, lora.up) for _, x in sorted(part.items())]
    return [*arrays, np.array([scale for _, scale in lora.scales])]


def write_shards(folder):
    from safetensors.numpy import save_file

    save_file({"a": rng().random((3, 5), np.float32)}, folder / "w-1.safetensors")
    save_file({"b": rng().random((2, 3), np.float32)}, folder / "w-2.safetensors")
    places = {"a": "w-1.safetensors", "b": "w-2.safetensors"}
    (folder / "w.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


@reader("safetensors in shards", write_shards)
def read_shards(folder):
    return load_safetensors(folder / "w.json")


@reader("DINOv2", older("vit"), share=0.3)
def read_vit(folder):
    return to_tensors(load_dinov2(folder / "vit"))


def write_encoder(folder):
    older("encoder")(folder)
    older("vit")(folder)


@reader("brain encoder", write_encoder, "encoder/*", checksums=("*.npz",), share=0.3)
def read_encoder(folder):
    found = BrainEncoder.from_pretrained(folder / "encoder", folder / "vit")
    return [found.blocks, found.correlations, of_regions(found.regions), found.provenance]


@functools.cache
def loaded_backbone():
    with tempfile.TemporaryDirectory() as folder:
        return load_pretrained(tiny_backbone.write_backbone_once(Path(folder)))


@reader("adapter", older("export"), checksums=("*.npz",), share=0.3)
def read_export(folder):
    with mock.patch.object(saving, "load_pretrained", lambda _: loaded_backbone()):
        found = saving.load(folder / "export")
    sampling = found.sampling.to_dict()
    return [to_tensors(found.adapter), of_regions(found.regions), sampling, found.num_candidates]


@reader("scene reader", lambda folder: shutil.copytree(SCENE_READER, folder / "s"), share=0.3)
def read_scene_reader(folder):
    found = load_scene_reader(folder / "s")
    return [list(found.config.categories), to_tensors(found)]


def write_released(folder):
    import torch

    tensors = {"module.a": torch.arange(12.0).reshape(3, 4), "module.b": torch.ones(5).half()}
    torch.save(tensors, folder / "pytorch_model.bin")


@reader("released checkpoint", write_released)
def read_released(folder):
    from neuroadapter_jax.interop.released import _read

    return _read(folder / "pytorch_model.bin")


# Records and the datasets they come from


def write_records(folder):
    tiny_prepared.write_prepared(folder / "prepared", folder / "root")
    ids = np.arange(15)
    names = np.array([f"n{i}" for i in ids])
    np.savez(folder / "prepared" / "stimuli.npz", ids=ids, names=names, has_image=ids >= 0)


@reader(
    "prepared records",
    write_records,
    "prepared/*",
    "records/*train*",
    checksums=("*.npz", "*array_record*"),
    optional=("stimuli.npz",),
    share=2,
)
def read_records(folder):
    found = PreparedDataset(folder / "prepared", "train")
    rows = [dict(found[i]) for i in range(len(found))]
    return [rows, found.image_ids, found.ncsnr, list(found.names), found.has_image]


@reader(
    "simulated subject",
    write_records,
    "truth.npz",
    "simulation.json",
    checksums=("*.npz",),
    optional=("*.json",),
)
def read_truth(folder):
    return [load_truth(folder / "root"), read_configuration(folder / "root")]


def write_sums(folder):
    import hashlib

    (folder / "a").write_bytes(b"records")
    digest = hashlib.sha256(b"records").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  a\n")


@reader("checksums", write_sums, "SHA256SUMS")
def read_sums(folder):
    return verify_checksums(folder)


def write_marks(folder):
    do_units({"one": "key"}, folder, lambda unit: {"bytes": 7})


@reader("marks of work", write_marks, "one.json")
def read_marks(folder):
    return do_units({"one": "key"}, folder, lambda unit: {"bytes": 7})


def write_shard(folder):
    note_done(Share(1, 1), folder / "p", {"subject": 1})
    (folder / "p.shards/1-of-1/moments00000.json").write_text("{}")


@reader("marks of shards", write_shard, "p.shards/1-of-1/done.json")
def read_shard(folder):
    with tempfile.TemporaryDirectory() as place:  # which is left without the shard
        shutil.copytree(folder, place, dirs_exist_ok=True)
        collect(Path(place) / "p", Path(place) / "work", {"subject": 1})
        return sorted(path.name for path in (Path(place) / "work").iterdir())


def write_variance(folder):
    found = RepeatVariance(7)
    found.add(rng().random((3, 7), np.float32))
    found.save(folder / "v.npz")


@reader("variance of repeats", write_variance, checksums=("*",))
def read_variance(folder):
    found = RepeatVariance(7)
    found.load(folder / "v.npz")
    return [found.sums, found.images]


@reader("npy", lambda folder: np.save(folder / "a.npy", rng().random((3, 5), np.float32)))
def read_array(folder):
    return [read_npy(folder / "a.npy", "an array", mapped=mapped) for mapped in (False, True)]


def write_arrays(folder):
    np.savez_compressed(folder / "a.npz", a=np.arange(300), b=np.array(["x", "yz"]))


@reader("npz", write_arrays, checksums=("*",))
def read_arrays(folder):
    return read_npz(folder / "a.npz", "arrays")


@reader(
    "NSD",
    nsd_tree.make_tree,
    "*.mat",
    "*.csv",
    "*.tsv",
    "*.hdf5",
    "lh.*.mgh",
    rows=("*.tsv", "*.csv"),
    share=3,
)
def read_nsd(folder):
    tree = nsd_tree
    found = NSDSubject(folder, tree.SUBJECT, tree.SPACE, tree.VERSION, sessions=[1, 2])
    betas = found.session_betas(1, "none").betas
    return [found.trial_image_ids(), found.ncsnr(), betas, found.images(np.array([3, 5]))]


def write_unseen(folder):
    tree = nsd_tree.make_tree(folder / "unseen")
    shown = np.unique(tree.shown)
    lines = [f"{image}\t{'odd' if image % 2 else 'even'}" for image in shown]
    (folder / "unseen" / "unseen_sets.tsv").write_text("\n".join(["nsdId\tset", *lines]) + "\n")


@reader(
    "the unseen experiment", write_unseen, "unseen_sets.tsv", rows=("unseen_sets.tsv",), share=9
)
def read_unseen(folder):
    tree = nsd_tree
    found = SimulatedUnseen(folder, tree.SUBJECT, tree.SPACE, tree.VERSION)
    return [*found.splits().values(), found.read_block(1).betas]


@reader(
    "NSD-Imagery",
    imagery_tree.make_tree,
    "*visA.tsv",
    "lh.*.mgh",
    "*L_43W.png",
    checksums=("*.png",),
    optional=("*ncsnr*",),
    share=2,
)
def read_imagery(folder):
    found = NSDImagery(folder, imagery_tree.SUBJECT, imagery_tree.SPACE, normalize="none")
    betas = found.read_block("imgA_1").betas
    pictures = [x for x in found.images(np.arange(18)) if x is not None]
    return [found.trial_image_ids(), betas, found.ncsnr(), pictures]


@reader("MOSAIC", mosaic_tree.make_tree, "*.hdf5", "*hemi-L*.gii", share=0.2)
def read_mosaic(folder):
    found = Mosaic(folder, mosaic_tree.cortex_in(folder), 3, num_validation=2)
    betas = found.read_block(0).betas
    return [found.trial_image_ids(), found.splits(), betas, found.ncsnr()]


def write_berg(folder):
    ids = rng().integers(0, 11, 23)
    metadata = {"img_presentation_order": ids}
    parts = ("train_img_num", "val_img_num", "test_img_num")
    metadata |= dict(zip(parts, np.split(np.arange(11), [7, 9]), strict=True))
    for side, count in (("lh", 5), ("rh", 7)):
        metadata |= {f"{side}_ncsnr": rng().random(count)}
        metadata |= {f"{side}_fsaverage_rois": {"V1": np.array([1, 3])}}
        with h5py.File(folder / f"{side}_betas_subject-1.h5", "w") as file:
            file["betas"] = rng().random((23, count), np.float32)
    np.save(folder / "metadata_subject-1.npy", metadata, allow_pickle=True)
    with h5py.File(folder / "i.hdf5", "w") as file:
        file["imgBrick"] = rng().integers(0, 256, (11, 5, 7, 3), np.uint8)


@reader("derived NSD", write_berg, share=2)
def read_berg(folder):
    found = DerivedNSD(folder, folder / "i.hdf5", allow_pickle=True)
    betas, pictures = found.read_block(1).betas, found.images(np.array([1, 10]))
    return [found.trial_image_ids(), found.splits(), betas, found.ncsnr(), found.rois(), pictures]


def write_challenge(folder):
    place = folder / "subj01"
    for name in ("roi_masks", "training_split/training_fmri", "training_split/training_images"):
        (place / name).mkdir(parents=True)
    for side, count in (("lh", 5), ("rh", 7)):
        mask = np.zeros(count + 6, np.int64)
        mask[3 : 3 + count] = 2
        np.save(place / f"roi_masks/{side}.all-vertices_fsaverage_space.npy", mask)
        betas = rng().random((3, count), np.float32)
        np.save(place / f"training_split/training_fmri/{side}_training_fmri.npy", betas)
    for i in range(3):
        picture = PIL.Image.fromarray(rng().integers(0, 256, (9, 7, 3), np.uint8))
        picture.save(place / f"training_split/training_images/train-000{i + 1}_nsd-0000{i}.png")


@reader("Algonauts", write_challenge, checksums=("*.png",))
def read_challenge(folder):
    found = Algonauts2023(folder, num_validation=1)
    return [found.read_block("training 1 on").betas, list(found.images(np.arange(3)))]


@reader(
    "BOLD5000",
    bold5000_tree.make_tree,
    "*LHPPA.npy",
    "*sess02_run01.txt",
    "*imgnames.txt",
    "repeated*.txt",
    rows=("*.txt",),
    optional=("*imgnames.txt",),
)
def read_bold5000(folder):
    found = BOLD5000(folder, bold5000_tree.SUBJECT, num_validation=5)
    return [found.trial_image_ids(), found.splits(), found.read_block(2).betas, found.ncsnr()]


def write_volumes(folder):
    bold5000_tree.make_tree(folder).write_volumes()


@reader(
    "BOLD5000 in volumes", write_volumes, "*ses-02.nii.gz", "*LHPPA.nii.gz", checksums=("*.gz",)
)
def read_bold5000_volumes(folder):
    found = BOLD5000(folder, bold5000_tree.SUBJECT, "volumes", sessions=(2,), num_validation=5)
    return [found.trial_image_ids(), found.read_block(2).betas]


@reader(
    "Deeprecon",
    lambda folder: bdata_files.World(folder / "w").write(),
    optional=("*Test*",),
    share=2,
)
def read_deeprecon(folder):
    found = Deeprecon(folder / "w", num_validation=2)
    blocks = [found.read_block(block).betas for block in found.blocks[:2]]
    return [found.trial_image_ids(), list(found.stimulus_names.values()), *blocks]


# Pictures, tables, results


def write_pictures(folder):
    picture = PIL.Image.fromarray(rng().integers(0, 256, (17, 13, 3), np.uint8))
    for suffix in ("png", "jpg", "tif", "bmp"):
        picture.save(folder / f"a.{suffix}")


@reader("pictures", write_pictures, checksums=("*.png",), share=2)
def read_pictures(folder):
    return {path.suffix: read_rgb(path) for path in sorted(folder.iterdir())} | {
        name: read_rgb(folder / f"a.{name}") for name in ("png", "jpg", "tif", "bmp")
    }


@reader("gallery", write_pictures, "*.png", checksums=("*.png",), optional=("*",))
def read_gallery(folder):
    gallery = gallery_of_folder(folder, 8)
    return gallery.read(np.arange(len(gallery)))


@reader(
    "reconstructions", older("reconstructions_encoder"), "index.json", "*.png", checksums=("*.png",)
)
def read_reconstructions(folder):
    found = load_reconstructions(folder / "reconstructions_encoder")
    arrays = [found.image_ids, found.stimuli, found.candidates, found.chosen, found.scores]
    return [*arrays, list(found.names), found.settings]


@reader("views", older("views"), "*.nc", share=0.2)
def read_views(folder):
    found = load_views(folder / "views")
    return {str(name): np.asarray(found[name].values) for name in found.data_vars}


@reader("scores", older("reconstructions"), "results.json")
def read_scores(folder):
    return read_results(folder / "reconstructions")


@reader("scores of each image", older("reconstructions"), "*.csv", rows=("*.csv",))
def read_image_scores(folder):
    found = read_per_image(folder / "reconstructions" / "per_image.csv")
    return [found.image_ids, dict(found.columns)]


@reader("scores for a card", older("reconstructions"), "results.json", share=0.3)
def read_card_scores(folder):
    found = card_scores(folder / "reconstructions")
    return [repr(found.scores), found.num_images, found.split, found.dataset, found.text]


@reader("summary of scores", older("reconstructions"), "results.json", share=0.3)
def read_score_summary(folder):
    return load_score_summary(folder / "reconstructions").reset_index().to_dict("list")


def write_publication(folder):
    for name in ("config.json", "adapter.safetensors", "regions.npz"):
        (folder / "model").mkdir(exist_ok=True)
        shutil.copy(ASSETS / "neuroadapter-simulated" / name, folder / "model" / name)


@reader("model to publish", write_publication, "config.json", share=0.3)
def read_publication(folder):
    details = CardDetails("mit", base_model="lab/sd")
    with tempfile.TemporaryDirectory() as place:
        files = prepare_publication(folder / "model", place, "lab/x", ADAPTER, details)
        return [files, (Path(place) / "README.md").read_text()]


def write_choice_scores(folder):
    ids, values = np.arange(3), {"ssim": rng().random(3)}
    ImageScores(ids, values, {"ssim": np.ones(3)}, {"clip": "not installed"}).save(folder / "s.npz")


@reader("scores of a choice", write_choice_scores, checksums=("*",))
def read_choice_scores(folder):
    found = ImageScores.load(folder / "s.npz")
    return [found.image_ids, found.points, found.out_of, found.missing]


def write_captions(folder):
    (folder / "own.json").write_text(json.dumps({"3": "a cat", "5": ["a dog", "a bone"]}))
    entries = [{"image_id": 100 + i, "caption": f"caption {i}"} for i in range(4)]
    (folder / "coco.json").write_text(json.dumps({"annotations": entries}))
    table = folder / "nsddata" / "experiments" / "nsd" / "nsd_stim_info_merged.csv"
    table.parent.mkdir(parents=True)
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows([["cocoId", "nsdId"], *([100 + i, i] for i in range(4))])


@reader("captions", write_captions, rows=("*.csv",))
def read_captions_of_both_kinds(folder):
    return read_captions([folder / "own.json", folder / "coco.json"], folder)


def write_image_adapter(folder):
    unet = tiny_backbone_networks().unet
    widths, heads = map(tuple, cross_attention_shapes(unet))
    config = ResamplerConfig(7, 6, 1, 2, 3, 2, unet.config.cross_attention_dim)
    adapter = tiny_backbone.random_network(
        lambda rngs: ImageAdapter(config, widths, heads, rngs=rngs), 3
    )
    save_image_adapter(
        folder, adapter, unet, embedder="tiny-vit", kind="pooled", embedder_fingerprint="ab"
    )


@functools.cache
def tiny_backbone_networks():
    with tempfile.TemporaryDirectory() as folder:
        return load_pretrained(tiny_backbone.write_backbone_once(Path(folder) / "b"))


@reader("image adapter", write_image_adapter, share=0.3)
def read_image_adapter(folder):
    stored = load_image_adapter(folder, tiny_backbone_networks().unet)
    return to_tensors(stored.adapter), stored[1:]


def write_clip_vision(folder):
    config = CLIPVisionConfig(8, 12, 5, 1, 2, 6, 3)
    network = tiny_backbone.random_network(lambda rngs: CLIPVisionModel(config, rngs=rngs), 3)
    write_safetensors(folder / "model.safetensors", to_tensors(network))
    fields = {**dataclasses.asdict(config), "model_type": "clip_vision_model"}
    (folder / "config.json").write_text(json.dumps(fields))


@reader("CLIP's image encoder", write_clip_vision, share=0.3)
def read_clip_vision(folder):
    return to_tensors(load_clip_vision(folder))


def write_low_level(folder):
    latents = rng().random((3, 4, 4, 2), np.float32)
    np.savez(folder / "l.npz", image_ids=np.array([2, 3, 5]), latents=latents)


@reader("low-level start", write_low_level, checksums=("*",))
def read_low_level(folder):
    unet = SimpleNamespace(config=SimpleNamespace(sample_size=4, in_channels=2))
    pipeline = SimpleNamespace(backbone=SimpleNamespace(unet=unet))
    return load_low_level_start(folder / "l.npz", np.array([3, 2]), pipeline)


def write_map(folder):
    numbers, entries = rng(), np.arange(3)
    weights, six = numbers.random((3, 6), np.float32), numbers.random(6, np.float32)
    LinearMap(entries, weights, six, six, (2, 3), entries).save(folder / "m.npz")


@reader("linear map", write_map, checksums=("*",))
def read_map(folder):
    found = LinearMap.load(folder / "m.npz")
    return [found.vertices, found.weights, found.bias, found.alphas, found.shape, found.image_ids]


def write_roi_file(folder):
    (folder / "rois.json").write_text(json.dumps({"early": ["a", "b"], "late": ["d"]}))


@reader("ROIs of names", write_roi_file)
def read_roi_file(folder):
    pipeline = SimpleNamespace(regions=tiny_pipeline.make_regions())
    rois, _ = ROISource(folder / "rois.json").load(pipeline)
    return [list(rois.names), np.asarray(rois.members)]


# Images of other projects


def write_stack(folder):
    images = rng().integers(0, 256, (3, 5, 5, 3), np.uint8)
    np.save(folder / "images.npy", images)
    (folder / "ids.txt").write_text("image_id\n3\n40\n1201\n")


@reader("images made elsewhere", write_stack, rows=("*.txt",))
def read_stack(folder):
    ids = read_image_ids(folder / "ids.txt")
    return [read_image_stack(folder / "images.npy").images, ids.dtype.kind]


def write_torch_stack(folder):
    import torch

    images = rng().random((3, 3, 5, 5), np.float32)
    content = {"images": torch.from_numpy(images), "image_ids": torch.tensor([3, 40, 1201])}
    torch.save(content, folder / "images.pt")


@reader("images made elsewhere, of PyTorch", write_torch_stack)
def read_torch_stack(folder):
    found = read_image_stack(folder / "images.pt")
    return [found.images, found.image_ids.dtype.kind]


def write_beside(folder):
    arrays = rng().random((2, 3, 4))
    np.savez(folder / "embeddings.npz", image_ids=np.arange(3), predicted=arrays[0], true=arrays[1])


@reader("embeddings beside images", write_beside, checksums=("*",), optional=("*",))
def read_beside(folder):
    return file_scores(folder, np.arange(3))[0]


def write_spatial_adapter(folder):
    config = SpatialAdapterConfig("light", channels=(4,), num_res_blocks=1, downscale=2)
    network = tiny_backbone.random_network(lambda rngs: SpatialAdapter(config, rngs=rngs), 3)
    save_spatial_adapter(folder, network)


@reader("spatial adapter", write_spatial_adapter, share=0.3)
def read_spatial_adapter(folder):
    return to_tensors(load_spatial_adapter(folder))


def write_joint_space(folder):
    config = JointSpaceConfig(5, 3, 2)
    network = tiny_backbone.random_network(lambda rngs: JointSpace(config, rngs=rngs), 3)
    save_joint_space(folder, network, "tiny-vit", "tiny-sd")


@reader("joint space", write_joint_space, share=0.5)
def read_joint_maps(folder):
    return to_tensors(read_joint_space(folder))


# Runs


def write_metrics(folder):
    lines = [{"step": i, "kind": "train", "loss": i / 3} for i in range(5)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))


@reader("metrics", write_metrics, rows=("*",), optional=("*",))
def read_metrics_of_a_run(folder):
    return read_metrics(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []


def write_run_config(folder):
    RunConfig({"seed": 3, "name": "a", "sizes": [1, 2]}).write(folder)


@reader("settings of a run", write_run_config)
def read_run_config(folder):
    if (folder / "config.json").exists():
        RunConfig({"seed": 3, "name": "a", "sizes": [1, 2]}).require_same(folder)
    return read_json(folder / "config.json", "settings")


def write_cached(folder):
    cached(folder / "c.json", {"seed": 3}, lambda: {"score": 0.5})


@reader("stored result", write_cached)
def read_cached(folder):
    read_json(folder / "c.json", "a result")  # which `cached` would compute where it is missing
    return json.dumps(cached(folder / "c.json", {"seed": 3}, lambda: {"score": 0.5}))


def write_checkpoints(folder):
    from neuroadapter_jax.training.checkpoints import CheckpointStore

    store = CheckpointStore(folder)
    for step in (1, 2):
        store.save(step, {"w": jnp.arange(15.0) + step, "n": jnp.int32(step)}, b"d")
    store.close()


@reader("checkpoint", write_checkpoints, "checkpoints/2/**/*", share=0.5)
def read_checkpoint(folder):
    from neuroadapter_jax.training.checkpoints import CheckpointStore

    store = CheckpointStore(folder)
    try:
        like = {"w": jnp.zeros(15), "n": jnp.int32(0)}
        step, state, data = store.restore(like, 2)
        return [step, {key: np.asarray(x) for key, x in state.items()}, data]
    finally:
        store.close()
