"""What the wrong commands are wrong about: small valid folders, made by the commands themselves.

Every folder comes from a command that has to succeed, so a row that differs from such a command in
one point is refused for that point.
"""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tiny_backbone import random_network

from neuroadapter_jax.commands import program
from neuroadapter_jax.diffusion.text_encoder import CLIPTextConfig, CLIPTextModel
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.diffusion.vae import AutoencoderConfig, AutoencoderKL
from neuroadapter_jax.diffusion.weights import save_component
from neuroadapter_jax.simulation import subject as subject_module

ROOT = Path(__file__).resolve().parents[2]
TINY_SD = ROOT / "neuroadapter_jax" / "assets" / "tiny-sd"
VIT = ROOT / "tests" / "older_versions" / "v0_1_0" / "vit"
SIMULATION = {
    "num_images": 12,
    "num_shared": 3,
    "num_repeats": 3,
    "trials_per_session": 12,
    "regions_per_hemisphere": 5,
    "seed": 3,
}
TRAIN = """from neuroadapter_jax.training.sibling_config import sibling_config


def get_config():
    config = sibling_config({configs!r}, {base!r})()
    config.workdir = {workdir!r}
    config.backbone = {backbone!r}
    config.progress = False
    config.data.simulation = {simulation!r}
    config.data.root = {root!r}
    config.data.prepared = {prepared!r}
    config.data.num_validation = 2
    config.data.parcels = "own"
    config.data.parcellation = {parcellation!r}
    config.{section}.update({settings})
    return config
"""
TRAINING = (
    "num_regions=4, batch_size=2, num_steps=2, warmup_steps=1, learning_rate=3e-3, "
    "log_every=1, evaluate_every=2, checkpoint_every=2, sample_steps=1, "
    "precision='fp32', num_candidates=1"
)
ENCODER = (
    "backbone={vit!r}, image_size=32, padded_size=32, blocks=(1,), num_heads=2, mlp_width=7, "
    "row_length=4, batch_size=2, num_steps=2, warmup_steps=0, log_every=1, evaluate_every=2, "
    "checkpoint_every=2"
)


class World:
    """The folders, by the words that stand for them in a row, such as {model}."""

    def __init__(self, folder: Path):
        self.folder, self._spare = folder, folder.with_name("spare")
        self._files: dict[str, tuple[int, int]] = {}
        folder.mkdir(parents=True)
        root = folder / "nsd"
        labels = root / "nsddata" / "freesurfer" / "fsaverage5" / "label"
        self.words = {
            name: str(folder / name)
            for name in ("backbone", "vit", "prepared", "run", "model", "recon")
        }
        self.words |= {
            "root": str(root),
            "labels": str(labels),
            "lh": str(labels / "lh.Simulated10Parcels.annot"),
            "rh": str(labels / "rh.Simulated10Parcels.annot"),
            "betas": str(
                root / "nsddata_betas/ppdata/subj01/fsaverage5/betas_fithrf_GLMdenoise_RR"
            ),
            "encoder_run": str(folder / "encoder_run"),
            "encoder": str(folder / "encoder_run" / "model"),
            "config": str(folder / "small.py"),
            "encoder_config": str(folder / "small_encoder.py"),
            "ablation": str(folder / "small_ablation.py"),
            "released": str(folder / "released"),
            "regions": str(folder / "model" / "regions.npz"),
            "rois": str(folder / "rois.json"),
            "start": str(folder / "start.npz"),
            "captions": str(folder / "captions.json"),
        }

    def make(self) -> "World":
        """Everything, by the commands."""
        write_backbone(Path(self.words["backbone"]))
        shutil.copytree(VIT, self.words["vit"])
        self._write_configs()
        self._make_records()
        words = self.words
        for line in (
            "prepare --config {config}",
            "train --config {config}",
            "export --run {run} --out {model}",
            "train-encoder --config {encoder_config}",
            "reconstruct --model {model} --prepared {prepared} --num_steps 1 --num_candidates 2 "
            "--encoder {encoder} --keep_candidates --noprogress --out {recon}",
            "convert --model {model} --to released --out {released}",
        ):
            run(line, self.words)
        self._write_files(words)
        shutil.copytree(self.folder, self._spare)
        self._files = files_of(self.folder)
        return self

    def restore(self) -> None:
        """Make everything again as it was, if a command changed it."""
        if files_of(self.folder) != self._files:
            shutil.rmtree(self.folder)
            shutil.copytree(self._spare, self.folder)
            self._files = files_of(self.folder)

    def _make_records(self) -> None:
        number, subject_module.CALIBRATION_SCENES = subject_module.CALIBRATION_SCENES, 31
        try:
            from neuroadapter_jax.simulation.nsd_writer import write_nsd

            write_nsd(
                Path(self.words["root"]), subject_module.SubjectConfig(**SIMULATION), progress=False
            )
        finally:
            subject_module.CALIBRATION_SCENES = number

    def _write_configs(self) -> None:
        words = self.words
        common = {
            "configs": str(ROOT / "configs" / "demo.py"),
            "backbone": words["backbone"],
            "root": words["root"],
            "prepared": words["prepared"],
            "parcellation": (words["lh"], words["rh"]),
            "simulation": None,
        }
        for name, base, section, settings, workdir in (
            ("config", "demo", "train", TRAINING, "run"),
            ("encoder_config", "encoder_demo", "encoder", ENCODER.format(**words), "encoder_run"),
            ("ablation", "ablation", "train", TRAINING, "run"),
        ):
            text = TRAIN.format(
                **common, base=base, section=section, settings=settings, workdir=words[workdir]
            )
            if name == "ablation":
                text = text.replace("get_config():", 'get_config(variant="full"):')
                text = text.replace("()\n    config.workdir", "(variant)\n    config.workdir")
            Path(words[name]).write_text(text)

    def _write_files(self, words: dict[str, str]) -> None:
        with np.load(Path(words["model"]) / "regions.npz") as regions:
            names = [str(name) for name in regions["names"]]
        Path(words["rois"]).write_text(json.dumps({"first": names[:1], "rest": names[1:]}))
        with np.load(Path(words["prepared"]) / "index.npz") as index:
            ids = index["test"]
        latents = np.zeros((len(ids), 16, 16, 4), np.float32)
        np.savez(words["start"], image_ids=ids, latents=latents)
        Path(words["captions"]).write_text(json.dumps({str(i): ["a cat"] for i in range(12)}))


def write_backbone(folder: Path) -> None:
    """A backbone of random weights and few blocks, because each takes long to compile."""
    shutil.copytree(TINY_SD / "tokenizer", folder / "tokenizer")
    shutil.copytree(TINY_SD / "scheduler", folder / "scheduler")
    shutil.copy(TINY_SD / "model_index.json", folder)
    tokenizer = CLIPTokenizer(folder / "tokenizer")
    blocks = {"layers_per_block": 1, "norm_num_groups": 2}
    vae = AutoencoderConfig(block_out_channels=(4, 4, 4), sample_size=64, **blocks)
    unet = UNetConfig(
        sample_size=16,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(4,),
        cross_attention_dim=8,
        attention_head_dim=1,
        **blocks,
    )
    text = CLIPTextConfig(tokenizer.vocab_size, 8, 13, 1, 2, tokenizer.length)
    for name, make in {
        "vae": lambda rngs: AutoencoderKL(vae, rngs=rngs),
        "unet": lambda rngs: UNet2DConditionModel(unet, rngs=rngs),
        "text_encoder": lambda rngs: CLIPTextModel(text, rngs=rngs),
    }.items():
        save_component(random_network(make, len(name)), folder, name)


def run(line: str, words: Mapping[str, str]) -> None:
    """One valid command."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            program.main([part.format(**words) for part in line.split()])
    except SystemExit as end:
        raise AssertionError(f"{line}: {end.code}: {said.getvalue()}") from end


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below a folder; locks do not count."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            if not name.endswith(".lock"):
                path = os.path.join(place, name)
                status = os.lstat(path)
                found[path] = (status.st_size, status.st_mtime_ns)
    return found
