"""Wrong calls of prepare and rois."""
# fmt: off

import bold5000_tree
import mosaic_tree
import numpy as np
from wrong_commands import damage as d
from wrong_commands.row import Row, row

FRESH = "prepare --config {config} --config.data.prepared={out}"
HALF = "prepare --config {config} --config.data.prepared={tmp}/half"
OWN = f"{FRESH} --config.data.root={{tmp}}/nsd"
AGAIN = "prepare --config {config} --config.data.root={tmp}/nsd"
NSD = d.copy("root")
BETAS = "nsd/nsddata_betas/ppdata/subj01/fsaverage5/betas_fithrf_GLMdenoise_RR"
EXPERIMENT = "nsd/nsddata/experiments/nsd"
SIMULATED = (
    "prepare --config demo:nsd_like --config.data.root={tmp}/nsd --config.data.prepared={out} "
    "--config.data.simulation"
)
DEMO = SIMULATED.removesuffix(" --config.data.simulation")
COHORT = (
    "prepare --config nsd_like:cohort --config.data.root={tmp}/nsd "
    "--config.data.prepared={out}-{{subject}} --config.data"
)
LABELS = "nsd/nsddata/freesurfer/subj01/label"
COUNT = "rois --config {config}"
B5K = (
    "prepare --config bold5000 --config.data.reader.root={tmp}/b --config.data.reader.subject=2 "
    "--config.data.prepared={out} --config.data.image_size=64 --config.backbone={backbone}"
)
B5K_FILES = d.made(bold5000_tree.make_tree, "b")
NOMEDIALWALL = "{tmp}/m/tpl-fsLR_den-32k_hemi-%s_desc-nomedialwall_dparc.label.gii"


def mosaic(first: str = "L", second: str = "R") -> str:
    """Prepare subject 3 of MOSAIC's BOLD5000 with these files of the cortex."""
    files = f"('{NOMEDIALWALL % first}','{NOMEDIALWALL % second}')"
    return (
        "prepare --config mosaic --config.data.reader.root={tmp}/m --config.data.prepared={out} "
        "--config.data.reader.subject=3 --config.data.image_size=64 --config.backbone={backbone} "
        f'--config.data.reader.cortex="{files}"'
    )


MOSAIC_FILES = d.made(mosaic_tree.make_tree, "m")
PAIR = "--config.data.parcellation=\"('{tmp}/lh.x.{end}','{tmp}/rh.x.{end}')\""
VERTICES = 10242
HALVES = np.arange(VERTICES) % 5


def pair(end: str) -> str:
    """The flag that names {tmp}/lh.x and {tmp}/rh.x."""
    return PAIR.replace("{end}", end)


def both(make, *arguments) -> tuple:
    """A step for the left and one for the right hemisphere's file."""
    return tuple(make(f"{h}.x{arguments[0]}", *arguments[1:]) for h in ("lh", "rh"))


PREPARE: tuple[Row, ...] = (
    row(21, "prepare", "--config"),
    row(21, "prepare --config demmo", "demmo", "demo"),
    row(21, "prepare --config {tmp}/nothing.py", "nothing.py"),
    row(21, "prepare --config {config}:small", "small.py", "variant"),
    row(21, "prepare {config}", "--config"),
    row(21, f"{FRESH} --dryrun", "dryrun"),
    row(21, "prepare --config {config} --verify=often", "verify", "often"),
    row(22, "prepare --config {tmp}/settings.yaml", "settings.yaml", ".py",
        steps=[d.text("settings.yaml", "data:\n  root: nsd\n")]),
    row(22, "prepare --config {tmp}/config.json", "config.json", ".py",
        steps=[d.text("config.json", "{}")]),
    row(22, "prepare --config {root}", "nsd", "file|folder"),
    row(21, "prepare --config {tmp}/other.py", "other.py", "get_config",
        steps=[d.text("other.py", "config = {}\n")]),
    row(4, f"{FRESH} --config.data.subjct=1", "data.subjct", "subject"),
    row(4, f"{FRESH} --config.data.image_size=0", "image_size", "0"),
    row(4, f"{FRESH} --config.data.image_size=-64", "image_size", "-64"),
    row(4, f"{FRESH} --config.data.image_size=63", "image_size", "63"),
    row(4, f"{FRESH} --config.data.image_size=large", "image_size", "large"),
    row(4, f"{FRESH} --config.data.num_validation=-1", "num_validation", "-1"),
    row(4, f"{FRESH} --config.data.num_validation=100", "num_validation", "100"),
    row(4, f"{FRESH} --config.data.normalize=zscore", "normalize", "zscore", "session"),
    row(4, "prepare --config nsd --config.data.root={root} --config.data.prepared={out} "
        "--config.data.space=fsaverage5 --config.data.split=shard1000", "split", "shard1000"),
    row(4, "prepare --config nsd --config.data.root={root} --config.data.prepared={out} "
        "--config.data.space=fsaverage5 --config.backbone={backbone} --config.data.split=shared "
        "--config.data.sessions='(1, 99)'", "session", "99"),
    row(4, f"{FRESH} --config.data.subject=0", "subject", "0"),
    row(1, f"{FRESH} --config.data.subject=2", "subject|subj02", "2"),
    row(1, f"{FRESH} --config.data.space=fsaverage", "fsaverage"),
    row(1, f"{FRESH} --config.data.beta_version=betas_assumehrf", "betas_assumehrf"),
    row(21, f"{FRESH} --config.data.root={{tmp}}/none", "{tmp}/none"),
    row(21, f"{FRESH} --config.data.root={{prepared}}", "{prepared}"),
    row(21, f"{FRESH} --config.data.root={{config}}", "{config}"),
    row(17, "prepare --config {config} --config.data.prepared={tmp}/nsd", "{tmp}/nsd", steps=[NSD]),
    row(17, "prepare --config {config} --config.data.prepared={tmp}/notes.txt", "notes.txt",
        steps=[d.text("notes.txt", "mine")]),
    row(19, "prepare --config {config} --config.data.prepared={tmp}/notes.txt/prepared",
        "notes.txt",
        steps=[d.text("notes.txt", "mine")]),
    row(17, "prepare --config demo --config.data.root={tmp}/nsd --config.data.prepared={out}",
        "{tmp}/nsd",
        steps=[d.text("nsd/thesis.txt", "mine")]),
    row(14, f"{FRESH} --config.backbone={{tmp}}/sd15", "sd15"),
    row(14, f"{FRESH} --config.backbone={{vit}}", "{vit}"),
    row(13, f"{OWN}", "lh.betas_session01.mgh",
        steps=[NSD, d.truncated(f"{BETAS}/lh.betas_session01.mgh")]),
    row(13, f"{OWN}", "rh.betas_session02.mgh",
        steps=[NSD, d.emptied(f"{BETAS}/rh.betas_session02.mgh")]),
    row(13, f"{OWN}", "lh.ncsnr.mgh", steps=[NSD, d.html(f"{BETAS}/lh.ncsnr.mgh")]),
    row(13, f"{OWN}", "nsd_stimuli.hdf5",
        steps=[NSD, d.html("nsd/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5")]),
    row(13, f"{OWN}", "nsd_expdesign.mat", "lfs|pointer",
        steps=[NSD, d.pointer(f"{EXPERIMENT}/nsd_expdesign.mat")]),
    row(13, f"{OWN}", "nsd_expdesign.mat",
        steps=[NSD, d.truncated(f"{EXPERIMENT}/nsd_expdesign.mat")]),
    row(13, f"{OWN}", "responses.tsv",
        steps=[NSD, d.html("nsd/nsddata/ppdata/subj01/behav/responses.tsv")]),
    row(13, f"{OWN}", "nsd_stim_info_merged.csv", "empty",
        steps=[NSD, d.emptied(f"{EXPERIMENT}/nsd_stim_info_merged.csv")]),
    row(21, f"{OWN}", "rh.betas_session02.mgh",
        steps=[NSD, d.removed(f"{BETAS}/rh.betas_session02.mgh")]),
    row(5, f"{OWN}", "lh", "rh", "session|ncsnr", leaves="{out}.partial",
        steps=[NSD, d.exchanged(f"{BETAS}/lh.betas_session01.mgh",
               f"{BETAS}/rh.betas_session01.mgh")]),
    row(5, f"{OWN}", "session", "ncsnr", leaves="{out}.partial",
        steps=[NSD, *(d.exchanged(f"{BETAS}/{h}.betas_session01.mgh",
               f"{BETAS}/{h}.betas_session02.mgh") for h in ("lh", "rh"))]),
    row(5, f"{OWN}", "ncsnr", leaves="{out}.partial",
        steps=[NSD, d.exchanged(f"{BETAS}/lh.ncsnr.mgh", f"{BETAS}/rh.ncsnr.mgh")]),
    row(20, AGAIN, "{prepared}", "delete|another",
        steps=[NSD, d.flipped(f"{BETAS}/lh.betas_session01.mgh")]),
    row(20, AGAIN, "{prepared}", "delete|another",
        steps=[NSD, d.flipped(f"{BETAS}/rh.betas_session02.mgh")]),
    row(20, AGAIN, "{prepared}|ncsnr", steps=[NSD, d.flipped(f"{BETAS}/rh.ncsnr.mgh")]),
    row(20, AGAIN, "{prepared}|nsd_stimuli.hdf5",
        steps=[NSD, d.flipped("nsd/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5")]),
    row(2, "prepare --config {config} --config.data.normalize=run", "{prepared}", "normalize",
        "run"),
    row(2, "prepare --config {config} --config.data.image_size=32", "{prepared}", "image_size"),
    row(2, "prepare --config {config} --config.data.num_validation=3", "{prepared}",
        "num_validation"),
    row(2, "prepare --config {config} --config.backbone=tiny-sd", "{prepared}", "encoder|backbone"),
    row(20, "prepare --config {config} --config.data.prepared={tmp}/prepared --verify",
        "array_record",
        steps=[d.copy("prepared"), d.flipped("prepared/nsd/1.0.0/*-test.*-*")]),
    row(20, "prepare --config {config} --config.data.prepared={tmp}/prepared --verify",
        "array_record",
        steps=[d.copy("prepared"), d.removed("prepared/nsd/1.0.0/*-test.*-*")]),
    row(20, "prepare --config {config} --config.data.prepared={tmp}/prepared --verify",
        "SHA256SUMS",
        steps=[d.copy("prepared"), d.emptied("prepared/nsd/1.0.0/SHA256SUMS")]),
    row(21, "prepare --config {config} --config.data.prepared={tmp}/none --verify", "{tmp}/none"),
    row(8, f"{FRESH} --shard 3/2", "--shard", "3/2", "from 1 to N"),
    row(8, f"{FRESH} --shard 0/2", "--shard", "0/2"),
    row(8, f"{FRESH} --shard a", "--shard", "'a'", "3/8"),
    row(8, f"{FRESH} --shard 1/2 --verify", "--verify", "--shard"),
    row(8, f"{FRESH} --shard 1/2 --dry-run", "--dry_run", "--shard"),
    row(2, "prepare --config {config} --shard 1/2 --config.data.normalize=run", "{prepared}",
        "normalize", "run"),
    row(2, HALF, "{tmp}/half.shards", "lacks shard 2 of 2", "--shard=2/2",
        steps=[d.prepared_shard("half", "1/2")]),
    row(2, f"{HALF} --shard 1/3", "{tmp}/half.shards", "shards of 2", "1/3",
        steps=[d.prepared_shard("half", "1/2")]),
    row(2, f"{HALF} --shard 1/2 --config.data.normalize=run", "1-of-2", "normalize", "session",
        "run", steps=[d.prepared_shard("half", "1/2")]),
    row(2, f"{HALF} --config.data.normalize=run", "1-of-1", "normalize", "session", "run",
        steps=[d.prepared_shard("half", "1/1")]),
    row(13, HALF, "done.json",
        steps=[d.prepared_shard("half", "1/1"), d.truncated("half.shards/1-of-1/done.json")]),
    row(17, HALF, "thesis", "move it to another place", steps=[d.folder("half.shards/thesis")]),
    row(4, f"{SIMULATED}.num_images=-5", "num_images", "-5"),
    row(4, f"{SIMULATED}.num_shared=9999", "num_shared", "9999"),
    row(3, f"{SIMULATED}.seed=nan", "seed", "nan"),
    row(4, f"{SIMULATED}.seed=-1", "seed", "-1"),
    row(4, f"{SIMULATED}=None --config.data.simulation.seed=2", "simulation"),
    row(4, f"{SIMULATED}.noise=loud", "noise", "loud", "clean", "nsd_like"),
    row(4, f"{SIMULATED}.noise=NSD_like", "noise", "NSD_like", "nsd_like"),
    row(4, f"{SIMULATED}.snr=1", "simulation.snr"),
    row(4, f"{SIMULATED}.num_special=260", "num_special", "260"),
    row(4, f"{SIMULATED}.trials_per_session=750", "trials_per_session", "750", "7680"),
    row(4, f"{SIMULATED}.num_unseen=0", "num_unseen", "0"),
    row(4, f"{SIMULATED}.num_images=2561", "trials_per_session", "7683"),
    row(4, f"{DEMO} --config.data.subject=4", "subject", "4", "1, 2, 5, 7, 3"),
    row(4, f"{DEMO} --config.data.split=special517", "split", "special517", "special515"),
    row(17, f"{DEMO} --config.data.simulation.seed=2", "{tmp}/nsd", steps=[NSD]),
    row(21, "prepare --config demo:loud", "loud", "nsd_like", "clean"),
    row(21, "prepare --config simulated:5", "5", "nsd_like", "clean"),
    row(21, "prepare --config nsd_like:4", "4", "1, 2, 3, 5, 7"),
    row(21, "prepare --config nsd_like:seen", "seen", "unseen"),
    row(4, f"{COHORT}.simulated_subjects='(1, 9)'", "simulated_subjects|subjects", "9"),
    row(4, f"{COHORT}.simulated_subjects='(1, 4)'", "subjects", "4", "1, 2, 5, 7, 3"),
    row(4, f"{COHORT}.simulated_subjects=all", "simulated_subjects", "all"),
    row(4, f"{COHORT}.simulated_subjects='(1, 2)' --config.data.subjects='(1, 5)'",
        "subject", "5"),
    row(21, "prepare --config nsd_like:unseen --config.data.reader.root={tmp}/none "
        "--config.data.prepared={out}", "unseen_sets.tsv", "nsd_like"),
    row(21, "prepare --config deeprecon --config.data.reader.root={tmp}/none "
        "--config.data.prepared={out}", "{tmp}/none"),
    row(21, "prepare --config nsd_imagery --config.data.reader.root={root} "
        "--config.data.prepared={out}", "nsdimagery"),
    row(21, "prepare --config algonauts2023 --config.data.reader.root={root} "
        "--config.data.prepared={out}", "subj01"),
    row(21, "prepare --config nsd_imagery --config.data.dataset=nsd_imagry "
        "--config.data.prepared={out}", "dataset", "nsd_imagry", "nsd_imagery"),
    row(21, B5K, "{tmp}/b", "presentation lists", "BOLD5000_Stimuli.zip"),
    row(4, f"{B5K} --config.data.reader.betas=voxels", "betas", "voxels", "rois"),
    row(4, f"{B5K} --config.data.reader.subject=5", "5", "subjects 1 to 4", steps=[B5K_FILES]),
    row(1, f"{B5K} --config.data.reader.subject=1", "CSI1", steps=[B5K_FILES]),
    row(4, f"{B5K} --config.data.reader.rois=\"('V1',)\"", "V1", "EarlyVis", steps=[B5K_FILES]),
    row(4, f"{B5K} --config.data.reader.sessions='(1, 4)'", "session 4", steps=[B5K_FILES]),
    row(4, f"{B5K} --config.data.reader.num_validation=24", "num_validation", "24",
        steps=[B5K_FILES]),
    row(21, f"{B5K} --dry-run", "{tmp}/b", "lacks the images",
        steps=[B5K_FILES, d.removed("b/**/concert1.jpg")]),
    row(13, B5K, "LHPPA.npy", steps=[B5K_FILES, d.truncated("b/**/*LHPPA.npy")]),
    row(11, B5K, "LHPPA.npy", "34", "35",
        steps=[B5K_FILES, d.removed("b/**/*LHPPA.npy"), d.array(
               f"b/CSI2_GLMbetas-{bold5000_tree.VERSION}_allses_LHPPA.npy", np.zeros((34, 2)))]),
    row(11, B5K, "CSI2_imgnames.txt", "1",
        steps=[B5K_FILES, d.text("b/CSI2_imgnames.txt", "concert1.jpg\n")]),
    row(21, mosaic(), "sub-03_BOLD5000.hdf5", "s3://mosaicfmri"),
    row(4, f"{mosaic()} --config.data.reader.dataset=things", "dataset", "things", "THINGS"),
    row(4, f"{mosaic()} --config.data.reader.subject=9", "9", "4 subjects", steps=[MOSAIC_FILES]),
    row(11, mosaic("R", "L"), "hemi-R", "29716", "29696", steps=[MOSAIC_FILES]),
    row(21, f"{mosaic()} --config.data.reader.images={{tmp}}/m", "lacks the images",
        steps=[MOSAIC_FILES]),
    row(13, mosaic(), "sub-03_BOLD5000.hdf5", steps=[MOSAIC_FILES, d.truncated("m/*.hdf5")]),
    row(22, "prepare --config derived_nsd --config.data.reader.root={tmp} "
        "--config.data.reader.images={root}/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5 "
        "--config.data.prepared={out}", "pickle", "metadata_subject-1.npy",
        steps=[d.array("metadata_subject-1.npy", {"a": 1}), d.text("lh_betas_subject-1.h5", ""),
               d.text("rh_betas_subject-1.h5", "")]),
    row(22, "prepare --config derived_nsd --allow-pickle --config.data.reader.root={tmp} "
        "--config.data.reader.images={root}/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5 "
        "--config.data.prepared={out}", "metadata_subject-1.npy",
        steps=[d.array("metadata_subject-1.npy", np.array([d.copy], dtype=object)),
               d.text("lh_betas_subject-1.h5", ""), d.text("rh_betas_subject-1.h5", "")]),
)

ROIS: tuple[Row, ...] = (
    row(21, "rois", "--config"),
    row(21, "rois --config nsd_imagery", "nsd_imagery", "label"),
    row(21, "rois --config nsd_subjects:9", "9", "8"),
    row(21, "rois --config tiny_sd", "data"),
    row(21, f"{COUNT} --config.data.root={{tmp}}/none", "{tmp}/none"),
    row(4, f"{COUNT} --thresholds half", "thresholds", "half"),
    row(4, f"{COUNT} --thresholds 1.5", "threshold", "1.5"),
    row(3, f"{COUNT} --thresholds nan", "threshold", "nan"),
    row(4, f"{COUNT} --thresholds=-0.1", "threshold", "-0.1"),
    row(4, f"{COUNT} --thresholds=", "threshold"),
    row(4, f"{COUNT} --config.train.num_regions=999", "num_regions|p =", "999"),
    row(4, f"{COUNT} --config.train.num_regions=-5", "num_regions|p =", "-5"),
    row(4, f"{COUNT} --config.train.num_regions=3", "num_regions|p =", "3", "per_hemisphere|even"),
    row(15, f"{COUNT} --extra_atlases Kastner2051", "Kastner2051"),
    row(15, f"{COUNT} --extra_atlases wang16", "wang16"),
    row(15, f"{COUNT} --extra_atlases prf-visualrois", "prf-visualrois", "twice|already"),
    row(15, f"{COUNT} --extra_atlases simulated-vtc --config.data.root={{tmp}}/nsd",
        "rh.simulated-vtc.mgz",
        steps=[NSD, d.removed(f"{LABELS}/rh.simulated-vtc.mgz")]),
    row(15, f"{COUNT} --extra_atlases simulated-vtc --config.data.root={{tmp}}/nsd",
        "simulated-vtc.mgz.ctab",
        steps=[NSD, d.removed(f"{LABELS}/simulated-vtc.mgz.ctab")]),
    row(15, f"{COUNT} --extra_atlases simulated-vtc --config.data.root={{tmp}}/nsd",
        "simulated-vtc.mgz.ctab", "line|number",
        steps=[NSD, d.text(f"{LABELS}/simulated-vtc.mgz.ctab", "food one\nanimal two\n")]),
    row(15, f"{COUNT} --extra_atlases simulated-vtc --config.data.root={{tmp}}/nsd",
        "simulated-vtc", "7",
        steps=[NSD, d.surface(f"{LABELS}/lh.simulated-vtc.mgz", np.ones(7, np.float32))]),
    row(15, f"{COUNT} --config.data.root={{tmp}}/nsd", "floc-faces",
        steps=[NSD, d.surface(f"{LABELS}/lh.floc-faces.mgz", np.full(VERTICES, 77, np.float32))]),
    row(13, f"{COUNT} --config.data.root={{tmp}}/nsd", "lh.prf-visualrois.mgz",
        steps=[NSD, d.truncated(f"{LABELS}/lh.prf-visualrois.mgz")]),
    row(13, f"{COUNT} --config.data.root={{tmp}}/nsd", "white-to-fsaverage.mgz", "lfs|pointer",
        steps=[NSD, d.pointer("nsd/nsddata/ppdata/subj01/transforms/lh.*.mgz")]),
    row(5, f"{COUNT} --config.data.parcellation=\"('{{rh}}','{{lh}}')\"", "for lh", "rh.",
        "left|right|hemisphere"),
    row(5, f"{COUNT} --config.data.parcellation=\"('{{lh}}','{{lh}}')\"",
        "lh.Simulated10Parcels.annot", "left|right|hemisphere"),
    row(5,
        f"{COUNT} --config.data.parcellation=\"('{{tmp}}/hemi-R.annot','{{tmp}}/hemi-L.annot')\"",
        "hemi-R",
        steps=[d.copy("lh", "hemi-L.annot"), d.copy("rh", "hemi-R.annot")]),
    row(11, f"{COUNT} --config.data.parcellation=\"('{{lh}}',)\"", "parcellation", "1", "two|2"),
    row(11, f"{COUNT} --config.data.parcellation='{{lh}}'", "parcellation"),
    row(13, f"{COUNT} {pair('annot')}", "lh.x.annot",
        steps=[d.copy("lh", "lh.x.annot"), d.copy("rh", "rh.x.annot"), d.truncated("lh.x.annot")]),
    row(13, f"{COUNT} {pair('annot')}", "rh.x.annot", "html|web page",
        steps=[d.copy("lh", "lh.x.annot"), d.copy("rh", "rh.x.annot"), d.html("rh.x.annot")]),
    row(13, f"{COUNT} {pair('gii')}", "lh.x.gii", "empty",
        steps=[d.text("lh.x.gii", ""), d.text("rh.x.gii", "")]),
    row(11, f"{COUNT} {pair('mgz')}", "lh.x.mgz", "ctab",
        steps=both(d.surface, ".mgz", HALVES.astype(np.float32))),
    row(11, f"{COUNT} {pair('mgz')}", "lh.x.mgz", "0.5|whole|integer",
        steps=[*both(d.surface, ".mgz", (HALVES + 0.5).astype(np.float32)), *both(d.text,
               ".mgz.ctab", "0 a 1 1 1 0\n1 b 2 2 2 0\n")]),
    row(11, f"{COUNT} {pair('mgz')}", "lh.x.mgz", "ctab",
        steps=[*both(d.surface, ".mgz", HALVES.astype(np.float32)), *both(d.text, ".mgz.ctab",
               "a,0,1,1,1\nb,1,2,2,2\n")]),
    row(11, f"{COUNT} {pair('mgz')}", "lh.x.mgz", "7",
        steps=[*both(d.surface, ".mgz", np.arange(7, dtype=np.float32)), *both(d.text, ".mgz.ctab",
               "".join(f"{i} r{i} {i} 1 1 0\n" for i in range(7)))]),
    row(11, f"{COUNT} {pair('annot')}", "lh.x.annot", "'b'",
        steps=both(d.annot, ".annot", HALVES, ["a", "b", "b", "c", "e"])),
    row(11, f"{COUNT} {pair('txt')}", "lh.x.txt", ".annot", steps=both(d.text, ".txt", "1\n2\n")),
    row(11, f"{COUNT} --config.data.parcellation=\"('{{tmp}}/tpl-fsaverage_hemi-L_atlas-"
        "Schaefer2018_seg-7n_scale-100.annot','{tmp}/tpl-fsaverage_hemi-R_atlas-Schaefer2018_"
        "seg-7n_scale-100.annot')\"".replace("{{", "{").replace("}}", "}"), "Schaefer2018",
        "lacks|missing|50",
        steps=[*(d.annot(f"tpl-fsaverage_hemi-{h}_atlas-Schaefer2018_seg-7n_scale-100.annot",
               np.arange(VERTICES) // (1 + (h == "R")) % 5,
                         ["wall", *(f"7Networks_{h}H_Vis_{i}" for i in range(1,
               5))]) for h in "LR")]),
    row(4, f"{COUNT} --config.data.parcels=stolen", "parcels", "stolen", "own"),
    row(19, f"{COUNT} --out {{tmp}}/notes.txt/rois.csv", "notes.txt",
        steps=[d.text("notes.txt", "mine")]),
    row(19, f"{COUNT} --out {{tmp}}/folder", "{tmp}/folder", steps=[d.folder("folder")]),
    row(17, f"{COUNT} --out {{tmp}}/thesis.csv", "thesis.csv",
        steps=[d.text("thesis.csv", "participant,age\n1,33\n")]),
)
