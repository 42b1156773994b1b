"""Wrong calls of decoders, ablate, claims, attention-truth, benchmark, convert, demo, doctor."""
# fmt: off

import numpy as np
from wrong_commands import damage as d
from wrong_commands.row import Row, row

COMPARED = (
    "decoders --model {model} --prepared {prepared} --encoder {encoder} --noprogress "
    "--methods mean_image --out {out}"
)
LINEAR = COMPARED.replace(
    "mean_image",
    "linear --captions {captions} --strength 0.5 --linear_guidance_scale 2 --num_steps 1",
)
RECORDS = COMPARED.replace("{prepared}", "{tmp}/prepared")
ABLATE = "ablate --config {ablation} --out {out}"
TRUTH = (
    "attention-truth --model {model} --prepared {prepared} --root {root} --num_images 2 "
    "--num_ranked 1 --num_ordered 1 --num_replaced 1 --num_moved 1 --num_random 1 "
    "--batch_size 1 --out {out}"
)
LEDGER = "claims --config claims --out {out}"
# A finished cell of one test image, which the plan's cells have more of.
OTHER_CELL = (
    '{"cell": "full-seed0", "settings": {"num_images": 1}, "inputs": {}, "minutes": 1.0, '
    '"result": {}}'
)
BENCHMARK = "benchmark --out {out}"
FEW = "few-steps --model {model} --prepared {prepared} --root {root} --num_images 2 --out {out}"
RELEASED = "convert --released {tmp}/released --backbone {backbone} --regions {regions} --out {out}"
NSD, COPIED, MADE, CHECKPOINT = (
    d.copy("root"),
    d.copy("prepared"),
    d.copy("model"),
    d.copy("released"),
)
WEIGHTS = "diffusion_pytorch_model.safetensors"
BIN, MAPPER = "released/pytorch_model.bin", "released/pytorch_model_1.bin"


def with_root(command: str, root: str) -> str:
    """The command on another subject's folder."""
    return command.replace("--root {root}", f"--root {root}")


DECODERS: tuple[Row, ...] = (
    row(21, "decoders --prepared {prepared} --noprogress --methods retrieval --out {out}",
        "retrieval: no brain encoder"),
    row(8, f"{COMPARED} --preset brain_diffuser", "--preset", "brain_diffuser", "--methods"),
    row(8, f"{COMPARED} --image_adapter {{tmp}}", "--image_adapter", "--methods"),
    row(21, COMPARED.replace("mean_image", "true_embedding"), "true_embedding: no image adapter"),
    row(21, COMPARED.replace("mean_image", "true_embedding --image_adapter {tmp}/none"),
        "{tmp}/none", "image adapter"),
    row(21, COMPARED.replace("mean_image", "true_embedding --image_adapter {model}"),
        "{model}", "image adapter|image_adapter"),
    row(8, f"{COMPARED} --image_encoder {{tmp}}", "--image_encoder", "--image_adapter"),
    row(21, "decoders --encoder {encoder} --out {out}", "--prepared"),
    row(21, COMPARED.replace("{encoder}", "{model}"), "{model}", "encoder"),
    row(21, COMPARED.replace("{model}", "{encoder}"), "{encoder}"),
    row(21, COMPARED.replace("{encoder}", "{tmp}/none"), "{tmp}/none"),
    row(21, COMPARED.replace("{prepared}", "{tmp}/none"), "{tmp}/none"),
    row(21, COMPARED.replace("mean_image", "mean_picture"), "methods", "mean_picture",
        "mean_image"),
    row(21, f"{COMPARED} --gallery {{tmp}}/none".replace("mean_image", "retrieval"),
        "gallery|{tmp}/none"),
    row(21, f"{COMPARED} --gallery {{tmp}}/empty".replace("mean_image", "retrieval"), "{tmp}/empty",
        "picture|image",
        steps=[d.folder("empty")]),
    row(8, f"{COMPARED} --gallery {{tmp}}/pictures", "gallery", "retrieval",
        steps=[d.picture("pictures/1.png")]),
    row(13, f"{COMPARED} --gallery {{tmp}}/pictures".replace("mean_image", "retrieval"), "1.png",
        steps=[d.text("pictures/1.png", "<html></html>")]),
    row(21, LINEAR.replace("{captions}", "{tmp}/none.json"), "none.json"),
    row(13, LINEAR.replace("{captions}", "{tmp}/captions.json"), "captions.json",
        steps=[d.copy("captions"), d.truncated("captions.json")]),
    row(13, LINEAR.replace("{captions}", "{tmp}/captions.json"), "captions.json",
        steps=[d.text("captions.json", '[["a cat"]]')]),
    row(13, LINEAR.replace("{captions}", "{tmp}/captions.json"), "captions.json", "cat",
        steps=[d.text("captions.json", '{"one": ["a cat"]}')]),
    row(1, LINEAR.replace("{captions}", "{tmp}/captions.json"), "caption", "image",
        steps=[d.text("captions.json", '{"999": ["a cat"]}')]),
    row(21, LINEAR.replace("{captions}", "{tmp}/coco.json"), "nsd_root",
        steps=[d.text("coco.json", '{"images": [], "annotations": []}')]),
    row(8, f"{COMPARED} --nsd_root {{root}}", "nsd_root", "--captions"),
    row(3, LINEAR.replace("--strength 0.5", "--strength nan"), "strength", "nan"),
    row(4, LINEAR.replace("--strength 0.5", "--strength 0"), "strength", "0"),
    row(4, LINEAR.replace("--strength 0.5", "--strength 1.5"), "strength", "1.5"),
    row(3, LINEAR.replace("scale 2", "scale nan"), "linear_guidance_scale|guidance_scale", "nan"),
    row(3, f"{COMPARED} --guidance_scale inf", "guidance_scale", "inf"),
    row(7, f"{COMPARED} --num_steps 1001", "num_steps", "1001", "1000"),
    row(7, f"{COMPARED} --sampler ddpm --num_steps 2000", "num_steps", "2000", "1000"),
    row(8, f"{COMPARED} --seed 4294967296", "seed", "4294967296"),
    row(8, f"{COMPARED} --num_candidates 0", "num_candidates", "0"),
    row(1, f"{COMPARED} --root {{tmp}}/nsd", "{tmp}/nsd", "subject|seed|simulation",
        steps=[NSD, d.text("nsd/simulation.json", '{"seed": 99}')]),
    row(21, f"{COMPARED} --root {{prepared}}", "{prepared}"),
    row(1, RECORDS, "subject", "2", steps=d.records_of(subject=2)),
    row(1, RECORDS, "normali", "run", steps=d.records_of(normalize="run")),
    row(1, RECORDS, "algonauts2023", steps=d.records_of(dataset="algonauts2023")),
    row(5, RECORDS, "index.npz", "image",
        steps=[COPIED, d.arrays("prepared/index.npz", train=lambda ids: ids[::-1])]),
    row(3, RECORDS.replace("mean_image", "linear_latents"), "nan|finite", "response|betas",
        steps=[COPIED, d.responses(d.first_value(np.nan), "train")]),
    row(13, RECORDS, "validation",
        steps=[COPIED, d.truncated("prepared/nsd/1.0.0/*-validation.*-*")]),
    row(17, COMPARED.replace("{out}", "{tmp}/mine"), "{tmp}/mine",
        steps=[d.text("mine/results.json", '{"mine": 1}')]),
    row(17, COMPARED.replace("{out}", "{model}"), "{model}"),
    row(19, COMPARED.replace("{out}", "{tmp}/notes.txt"), "notes.txt",
        steps=[d.text("notes.txt", "mine")]),
)

ABLATIONS: tuple[Row, ...] = (
    row(21, "ablate", "--config"),
    row(21, "ablate --config {ablation}:no_min_snr --out {out}", "no_min_snr"),
    row(21, "ablate --config {config} --out {out}", "ablation", "section|small.py"),
    row(21, f"{ABLATE} --seeds 0,1", "seeds"),
    row(4, f"{ABLATE} --config.ablation.seeds='()'", "seeds"),
    row(4, f"{ABLATE} --config.ablation.seeds='(0,0)'", "seeds", "0", "twice|same|distinct|once"),
    row(4, f"{ABLATE} --config.ablation.seeds=\"('a',)\"", "seeds", "a"),
    row(8, f"{ABLATE} --config.ablation.seeds='(-1,)'", "seeds", "-1"),
    row(4, f"{ABLATE} --config.ablation.num_images=0", "num_images", "0"),
    row(4, f"{ABLATE} --config.ablation.num_candidates=0", "num_candidates", "0"),
    row(4, f"{ABLATE} --config.ablation.sampler=euler", "sampler", "euler", "ddim"),
    row(7, f"{ABLATE} --config.ablation.num_steps=1001", "num_steps", "1001"),
    row(7, f"{ABLATE} --config.ablation.num_steps=0", "num_steps", "0"),
    row(21, f"{ABLATE} --config.ablation.encoder={{tmp}}/none", "{tmp}/none"),
    row(21, f"{ABLATE} --config.ablation.encoder={{model}}", "{model}", "encoder"),
    row(21, f"{ABLATE} --config.ablation.encoder_config={{tmp}}/none.py", "none.py"),
    row(4, f"{ABLATE} --config.train.gamma=-1", "gamma", "-1"),
    row(4, f"{ABLATE} --config.train.schedule=cosin", "schedule", "cosin"),
    row(3, f"{ABLATE} --config.train.learning_rate=nan", "learning_rate", "nan"),
    row(4, "ablate --config {tmp}/odd.py --out {out}", "num_region",
        steps=[d.config("odd", "ablation", "with config.ignore_type(), config.unlocked():",
               "    config.ablation.variants.odd = {{'num_region': 2}}")]),
    row(4, "ablate --config {tmp}/odd.py --out {out}", "full",
        steps=[d.config("odd", "ablation", "with config.unlocked():",
               "    del config.ablation.variants['full']")]),
    row(21, f"{ABLATE} --config.ablation.variant=full", "ablation.variant"),
    row(17, "ablate --config {ablation} --out {tmp}/mine", "{tmp}/mine",
        steps=[d.text("mine/results.json", '{"mine": 1}')]),
    row(19, "ablate --config {ablation} --out {tmp}/notes.txt", "notes.txt",
        steps=[d.text("notes.txt", "mine")]),
)

CLAIMS: tuple[Row, ...] = (
    row(21, "claims", "--config"),
    row(21, "claims --config claims:full --out {out}", "claims:full"),
    row(21, "claims --config {config} --out {out}", "claims", "section|small.py"),
    row(21, f"{LEDGER} --cells p21", "p21", "full-seed0", "no_token_dropout"),
    row(4, f"{LEDGER} --max_minutes 0", "max_minutes", "0"),
    row(4, f"{LEDGER} --config.claims.seeds='(0,0)'", "seeds", "0", "twice|same|distinct|once"),
    row(4, f"{LEDGER} --config.claims.seeds='()'", "seeds"),
    row(4, f"{LEDGER} --config.claims.num_images=0", "num_images", "0"),
    row(4, f"{LEDGER} --config.claims.num_selected=0", "num_selected", "0"),
    row(4, f"{LEDGER} --config.claims.sampler=euler", "sampler", "euler", "ddim"),
    row(7, f"{LEDGER} --config.claims.num_steps=0", "num_steps", "0"),
    row(7, f"{LEDGER} --config.claims.num_steps=1001", "num_steps", "1001"),
    row(4, f"{LEDGER} --config.train.pixel_weight=-1", "pixel_weight", "-1"),
    row(4, f"{LEDGER} --config.train.region_hidden=0", "region_hidden", "0"),
    row(21, f"{LEDGER} --config.claims.encoder_config={{tmp}}/none.py", "none.py"),
    row(21, f"{LEDGER} --config.claims.encoder_config=demo", "encoder_config", "encoder_demo"),
    row(13, f"{LEDGER} --list --ledger {{tmp}}", "full-seed0.json",
        steps=[d.text("full-seed0.json", "not json")]),
    row(2, f"{LEDGER} --report --ledger {{tmp}} --page {{tmp}}/claims.md", "full-seed0.json",
        "num_images", "another --ledger|name another",
        steps=[d.text("full-seed0.json", OTHER_CELL)]),
)

ATTENTION_TRUTH: tuple[Row, ...] = (
    row(21, "attention-truth --prepared {prepared} --out {out}", "--root"),
    row(21, "attention-truth --prepared {prepared} --root {root}", "--out"),
    row(21, TRUTH.replace("{model}", "{encoder}"), "{encoder}"),
    row(21, TRUTH.replace("{model}", "{tmp}/none"), "{tmp}/none"),
    row(21, TRUTH.replace("--prepared {prepared}", "--prepared {root}"), "{root}"),
    row(21, with_root(TRUTH, "{prepared}"), "{prepared}"),
    row(21, with_root(TRUTH, "{tmp}/none"), "{tmp}/none"),
    row(1, with_root(TRUTH, "{tmp}/nsd"), "truth.npz", "simulated",
        steps=[NSD, d.removed("nsd/truth.npz")]),
    row(13, with_root(TRUTH, "{tmp}/nsd"), "truth.npz", "empty",
        steps=[NSD, d.emptied("nsd/truth.npz")]),
    row(13, with_root(TRUTH, "{tmp}/nsd"), "truth.npz", "lfs|pointer",
        steps=[NSD, d.pointer("nsd/truth.npz")]),
    row(13, with_root(TRUTH, "{tmp}/nsd"), "truth.npz", "masks_packed",
        steps=[NSD, d.arrays("nsd/truth.npz", masks_packed=None)]),
    row(1, with_root(TRUTH, "{tmp}/nsd"), "{tmp}/nsd", "subject|seed|simulation",
        steps=[NSD, d.text("nsd/simulation.json", '{"seed": 99}')]),
    row(1, TRUTH.replace("{prepared}", "{tmp}/prepared"), "subject", "2",
        steps=d.records_of(subject=2)),
    row(1, TRUTH.replace("{prepared}", "{tmp}/prepared"), "normali", "run",
        steps=d.records_of(normalize="run")),
    row(18, TRUTH.replace("--num_images 2", "--num_images 0"), "num_images", "0"),
    row(18, TRUTH.replace("--num_ranked 1", "--num_ranked 0"), "num_ranked", "0"),
    row(18, TRUTH.replace("--batch_size 1", "--batch_size=-4"), "batch_size", "-4"),
    row(8, f"{TRUTH} --only map", "--only", "map", "maps"),
    row(21, f"{TRUTH} --more_models {{tmp}}/none", "{tmp}/none"),
    row(8, f"{TRUTH} --seed=-1", "seed", "-1"),
    row(8, f"{TRUTH} --seed 4294967296", "seed", "4294967296"),
    row(3, TRUTH.replace("{model}", "{tmp}/model"), "adapter.safetensors", "nan|finite",
        steps=[MADE, d.tensors("model/adapter.safetensors", d.one_value(np.nan))]),
    row(17, TRUTH.replace("{out}", "{tmp}/mine"), "{tmp}/mine",
        steps=[d.text("mine/results.json", '{"mine": 1}')]),
    row(19, TRUTH.replace("{out}", "{tmp}/notes.txt"), "notes.txt",
        steps=[d.text("notes.txt", "mine")]),
)

BENCHMARKS: tuple[Row, ...] = (
    row(21, f"{BENCHMARK} --sizes huge", "size", "huge", "tiny-sd"),
    row(21, f"{BENCHMARK} --sizes=", "sizes", "tiny-sd"),
    row(21, f"{BENCHMARK} --sizes tiny-sd,tinysd", "tinysd", "tiny-sd"),
    row(4, f"{BENCHMARK} --repeats 1", "repeats", "1", "5"),
    row(4, f"{BENCHMARK} --repeats five", "repeats", "five"),
    row(4, f"{BENCHMARK} --num_steps 0", "num_steps", "0"),
    row(7, f"{BENCHMARK} --num_steps 1001", "num_steps", "1001", "1000"),
    row(21, f"{BENCHMARK} --quick --compile_for h100", "--quick", "--compile_for"),
    row(21, f"{BENCHMARK} --compile_for h100 --full_size", "--compile_for", "--full_size"),
    row(21, f"{BENCHMARK} --compile_for h1000", "h1000", "h100"),
    row(21, f"{BENCHMARK} --compile_for=", "compile_for", "h100"),
    row(21, f"{BENCHMARK} --measure", "--measure", "CPU", "--tiny"),
    row(21, f"{BENCHMARK} --tiny", "--tiny", "--measure"),
    row(21, f"{BENCHMARK} --measure --compile_for h100", "--measure", "--compile_for"),
    row(21, f"{BENCHMARK} --measure --tiny --quick", "--measure", "--quick"),
    row(17, "benchmark --measure --tiny --out {tmp}/mine", "measured.json",
        steps=[d.text("mine/measured.json", '{"mine": 1}')]),
    row(21, f"{BENCHMARK} --quick --views", "--quick", "--views"),
    row(21, f"{BENCHMARK} --quick --sizes sd15", "--quick", "sizes|sd15"),
    row(21, f"{BENCHMARK} --model {{model}}", "model"),
    row(21, f"{BENCHMARK} tiny-sd", "tiny-sd", "flag"),
    row(19, "benchmark --quick --out {tmp}/notes.txt", "notes.txt",
        steps=[d.text("notes.txt", "mine")]),
    row(17, "benchmark --quick --out {tmp}/mine", "benchmark.json",
        steps=[d.text("mine/benchmark.json", '{"mine": 1}')]),
)


def pickled(path: str, harmful: bool) -> d.Step:
    """A checkpoint file that runs code when it is read, or holds no tensors."""

    def step(tmp, words):
        import torch

        torch.save({"a": print if harmful else 3}, tmp / path)

    return step


CONVERT: tuple[Row, ...] = (
    row(21, "convert --model {model}", "--out"),
    row(21, "convert --out {out}", "--model", "--released"),
    row(21, "convert --model {model} --released {released} --out {out}", "--model", "--released"),
    row(21, "convert --released {released} --out {out}", "--backbone"),
    row(21, "convert --model {model} --to diffusers --out {out}", "to", "diffusers", "released"),
    row(21, "convert --model {tmp}/none --out {out}", "{tmp}/none"),
    row(21, "convert --model {released} --to released --out {out}", "{released}"),
    row(21, "convert --model {encoder} --to released --out {out}", "{encoder}"),
    row(21, "convert --released {model} --backbone {backbone} --out {out}", "{model}",
        "pytorch_model.bin"),
    row(21, "convert --released {tmp}/none --backbone {backbone} --out {out}", "{tmp}/none"),
    row(8, "convert --model {model} --regions {regions} --to released --out {out}", "regions",
        "--released"),
    row(8, "convert --model {model} --guidance_scale 3 --to released --out {out}", "guidance_scale",
        "--released"),
    row(3, f"{RELEASED} --guidance_scale nan", "guidance_scale", "nan", steps=[CHECKPOINT]),
    row(3, "convert --model {tmp}/model --to released --out {out}", "adapter.safetensors",
        "nan|finite",
        steps=[MADE, d.tensors("model/adapter.safetensors", d.one_value(np.nan))]),
    row(21, RELEASED.replace("{regions}", "{tmp}/none.npz"), "none.npz", steps=[CHECKPOINT]),
    row(11, RELEASED.replace("{regions}", "{lh}"), "lh.Simulated10Parcels.annot",
        steps=[CHECKPOINT]),
    row(13, RELEASED.replace("{regions}", "{tmp}/regions.npz"), "regions.npz", "empty",
        steps=[CHECKPOINT, d.copy("regions"), d.emptied("regions.npz")]),
    row(11, RELEASED.replace("{regions}", "{tmp}/regions.npz"), "regions.npz", "names",
        steps=[CHECKPOINT, d.copy("regions"), d.arrays("regions.npz", names=None)]),
    row(22, RELEASED, "pytorch_model.bin", steps=[CHECKPOINT, pickled(BIN, True)]),
    row(22, RELEASED, "pytorch_model_1.bin", steps=[CHECKPOINT, pickled(MAPPER, True)]),
    row(13, RELEASED, "pytorch_model.bin", steps=[CHECKPOINT, pickled(BIN, False)]),
    row(13, RELEASED, "pytorch_model.bin", steps=[CHECKPOINT, d.truncated(BIN)]),
    row(13, RELEASED, "pytorch_model_1.bin", "lfs|pointer", steps=[CHECKPOINT, d.pointer(MAPPER)]),
    row(13, RELEASED, "pytorch_model_1.bin", steps=[CHECKPOINT, d.removed(MAPPER)]),
    row(2, RELEASED.replace("{backbone}", "{tmp}/backbone"), "unet|frozen", "backbone",
        steps=[CHECKPOINT, d.copy("backbone"), d.tensors(f"backbone/unet/{WEIGHTS}",
               d.one_value(0.5))]),
    row(14, RELEASED.replace("{backbone}", "{tmp}/backbone"), "in_channels|conv_in", "9",
        steps=[CHECKPOINT, d.copy("backbone"), d.edit("backbone/unet/config.json", in_channels=9)]),
    row(14, RELEASED.replace("{backbone}", "tiny-sd"), "tiny-sd|backbone", steps=[CHECKPOINT]),
    row(12, "convert --model {model} --backbone {tmp}/backbone --out {out}", "tokenizer",
        steps=[d.copy("backbone"), d.removed("backbone/tokenizer")]),
    row(6, "convert --model {model} --backbone {tmp}/backbone --to released --out {out}",
        "mid_block|up_block|UNet",
        steps=[d.copy("backbone"), d.edit("backbone/unet/config.json", mid_block_type="Other")]),
    row(17, "convert --model {model} --to released --out {released}", "{released}"),
    row(17, "convert --model {model} --to released --out {tmp}/mine", "{tmp}/mine",
        steps=[d.text("mine/pytorch_model_1.bin", "my weights")]),
    row(17, "convert --model {model} --out {tmp}/mine", "config.json",
        steps=[d.text("mine/config.json", "{}")]),
    row(17, "convert --model {model} --out {tmp}/mine", "adapter.safetensors",
        steps=[d.text("mine/adapter.safetensors", "my weights")]),
    row(17, "convert --model {model} --to ip_adapter --out {tmp}/mine.safetensors",
        "mine.safetensors",
        steps=[d.text("mine.safetensors", "my weights")]),
    row(17, "convert --model {model} --out {model}", "{model}"),
    row(21, "convert --model {model} --to ip_adapter --out {out}.bin", "out.bin", ".safetensors"),
    row(19, "convert --model {model} --to ip_adapter --out {tmp}/folder.safetensors",
        "folder.safetensors",
        steps=[d.folder("folder.safetensors")]),
    row(19, "convert --model {model} --to released --out {tmp}/notes.txt", "notes.txt",
        steps=[d.text("notes.txt", "mine")]),
)

DEMO: tuple[Row, ...] = (
    row(21, "demo --config demo", "config"),
    row(21, "demo demo", "demo", "flag"),
    row(21, "demo --output {out}", "output", "out"),
    row(21, "demo --out", "out"),
    row(21, "demo --out=", "out"),
    row(21, "demo --out {out} --num_steps 3", "num_steps"),
    row(21, "demo --out {out} --verbosity loud", "verbosity", "loud"),
    row(19, "demo --out {tmp}/notes.txt", "notes.txt", steps=[d.text("notes.txt", "mine")]),
    row(19, "demo --out {tmp}/notes.txt/demo", "notes.txt", steps=[d.text("notes.txt", "mine")]),
    row(19, "demo --out {tmp}/loop/demo", "loop", steps=[d.link("loop", "loop")]),
    row(13, "demo --out {out}", "seconds.json", steps=[d.text("out/seconds.json", "")]),
    row(13, "demo --out {out}", "seconds.json", steps=[d.text("out/seconds.json", "[1]")]),
    row(17, "demo --out {out}", "report.html", steps=[d.text("out/report.html", "my page")]),
    row(17, "demo --quick --out {out}", "reconstructions.png",
        steps=[d.text("out/quick/reconstructions.png", "my picture")]),
    row(13, "demo --quick --out {out}", "seconds.json",
        steps=[d.text("out/quick/seconds.json", "[1]")]),
    row(17, "demo --quick --out {out}", "index.json",
        steps=[d.text("out/quick/own/index.json", "mine")]),
    row(17, "demo --out {out}", "runs/simulated", steps=[d.text("runs/simulated", "my notes")]),
)

DOCTOR: tuple[Row, ...] = (
    row(21, "doctor reconstruct", "reconstruct", "flag"),
    row(21, "doctor --fix", "fix"),
    row(21, "doctor --out {out}", "out"),
    row(21, "doctor --config demo", "config"),
    row(21, "doctor --json", "json"),
    row(21, "doctor -q", "q"),
    row(21, "doctor --verbose", "verbose", "verbosity"),
    row(21, "doctor --verbosity", "verbosity"),
    row(21, "doctor --verbosity all", "verbosity", "all"),
    row(21, "doctor --traceback=maybe", "traceback", "maybe"),
    row(21, "doctor --noverbosity", "noverbosity|verbosity"),
    row(21, "docter", "docter", "doctor"),
    row(21, "doctr --verbosity 0", "doctr", "doctor"),
)

FEW_STEPS: tuple[Row, ...] = (
    row(4, f"{FEW} --num_seeds 1", "num_seeds", "1", "2"),
    row(4, f"{FEW} --num_seeded 1", "num_seeded", "1", "2"),
    row(4, f"{FEW} --guidance_low=-2", "guidance_low", "-2"),
    row(4, f"{FEW} --guidance_low 5", "guidance_high", "4"),
    row(18, f"{FEW} --num_views 0", "num_views", "0"),
    row(21, FEW.replace(" --root {root}", ""), "root"),
    row(21, FEW.replace("{root}", "{tmp}/none"), "{tmp}/none"),
    row(21, f"{FEW} --distilled {{model}}", "lora.safetensors", "distill"),
    row(21, f"{FEW} --distilled {{tmp}}/none", "{tmp}/none"),
    row(21, FEW.replace("{model}", "{encoder}"), "{encoder}"),
)
