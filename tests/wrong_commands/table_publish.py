"""Wrong calls of publish."""
# fmt: off

from wrong_commands import damage as d
from wrong_commands.row import Row, row

SHARED = "publish --repo lab/x --licence mit --base_model lab/sd"
DRY = "--dry_run --out {out}"
BASE = f"{SHARED} --model {{model}} {DRY}"
OWN = f"{SHARED} --model {{tmp}}/model {DRY}"
OTHER_SCORES = (
    '{"num_images": 3, "metrics": {}, "missing": {}, "reconstructions": {"model": {"step": 999}}}'
)

PUBLISH: tuple[Row, ...] = (
    row(21, "publish --model {model}", "--repo", "--licence"),
    row(21, f"{SHARED} {DRY}", "--model", "--encoder"),
    row(21, f"{SHARED} --model {{model}} --encoder {{encoder}} {DRY}", "--model", "--encoder"),
    row(21, f"{BASE} --repo x", "'x'", "owner/model"),
    row(21, f"{BASE} --repo lab/x/y", "'lab/x/y'", "owner/model"),
    row(21, f"{BASE} --licence cc-by-40", "cc-by-40", "cc-by-4.0"),
    row(21, f"{BASE} --licence other", "licence_name", "licence_link"),
    row(8, f"{BASE} --licence_name mine", "licence_name", "'mit'"),
    row(8, f"{SHARED} --model {{model}} --dry_run", "dry_run", "--out"),
    row(8, f"{SHARED} --model {{model}} --out {{out}}", "out", "--dry_run"),
    row(8, f"{BASE} --private", "private", "--dry_run"),
    row(8, f"{SHARED} --encoder {{encoder}} --results {{rois}} {DRY}", "results", "--encoder"),
    row(21, f"{BASE} --base_model sd15", "base_model", "sd15", "owner/model"),
    row(21, f"publish --repo lab/x --licence mit --model {{model}} {DRY}", "{backbone}",
        "--base_model"),
    row(21, f"{SHARED} --model {{encoder}} {DRY}", "{encoder}", "brain encoder"),
    row(21, f"{SHARED} --encoder {{model}} {DRY}", "{model}", "validation.npz"),
    row(21, f"{SHARED} --model {{run}} {DRY}", "{run}", "adapter.safetensors"),
    row(21, f"{SHARED} --model {{tmp}}/none {DRY}", "{tmp}/none"),
    row(21, f"{SHARED} --model lab/none {DRY}", "lab/none", "neuroadapter export"),
    row(21, f"{BASE} --results {{tmp}}/none.json", "none.json"),
    row(21, f"{BASE} --interpretation {{recon}}", "report.html", "neuroadapter interpret"),
    row(1, f"{BASE} --results {{tmp}}/results.json", "scores", "999",
        steps=[d.text("results.json", OTHER_SCORES)]),
    row(1, f"{BASE} --interpretation {{tmp}}/views", "{tmp}/views", "999",
        steps=[d.text("views/report.html", "x"),
               d.text("views/settings.json", '{"model": {"step": 999}}')]),
    row(13, OWN, "config.json", steps=[d.copy("model"), d.truncated("model/config.json")]),
    row(13, OWN, "regions.npz", steps=[d.copy("model"), d.removed("model/regions.npz")]),
    row(17, f"{SHARED} --model {{model}} --dry_run --out {{tmp}}/mine", "{tmp}/mine",
        steps=[d.text("mine/README.md", "mine")]),
    row(19, f"{SHARED} --model {{model}} --dry_run --out {{tmp}}/notes.txt", "notes.txt",
        steps=[d.text("notes.txt", "mine")]),
    row(21, f"{SHARED} --model {{model}}", "HF_HUB_OFFLINE"),
)
