r"""What few sampling steps cost, and what they change.

    neuroadapter few-steps --model neuroadapter-simulated --distilled runs/distill/model \
        --prepared runs/simulated/prepared --root runs/simulated/nsd --out runs/few_steps

Reconstructs the test images of the simulated subject with DDIM and DDPM in 50 steps, DPM-Solver++
in 19, 10, 6 and 4, guidance in an interval of noise levels, and the distilled model in 4, 2 and 1.
Writes a folder of reconstructions per row, results.json and few-steps.md: seconds, identification,
recall, object identity, SSIM, how far the images depend on the seed, and whether IBBI ranks the
regions as in 50 steps. A killed run goes on. docs/few-steps.md explains.
"""

from pathlib import Path

from absl import flags

from neuroadapter_jax.commands.given import require_folder
from neuroadapter_jax.commands.machine import use_cpu_cores
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.ranges import named


def define(values: CommandFlags) -> None:
    define_shared(
        values, "model", "prepared", "root", "out", "num_images", "batch_size", "seed",
        "guidance_low", "guidance_high", "progress",
        required=("model", "prepared", "root", "out"),
        defaults={"guidance_low": 0.5, "guidance_high": 4.0},
        helps={
            "root": "Folder of the simulated subject.",
            "guidance_low": "Lower noise level of the row with guidance in an interval.",
            "guidance_high": "Upper noise level of that row.",
        },
    )  # fmt: skip
    flags.DEFINE_string(
        "distilled", None, "Folder of `neuroadapter distill`; without it its rows are missing.",
        flag_values=values,
    )  # fmt: skip
    for name, default, help in (
        ("num_views", 40, "The first so many images are interpreted as well."),
        ("num_seeded", 20, "The first so many images are sampled from further seeds."),
        ("num_seeds", 3, "Seeds of those, at least 2."),
    ):
        flags.DEFINE_integer(name, default, help, lower_bound=1, flag_values=values)


def main(values: CommandFlags, arguments: list[str]) -> None:
    if values.distilled is not None:
        require_folder("--distilled", "model", Path(values.distilled))
    use_cpu_cores(values.batch_size)

    from neuroadapter_jax.pipeline import NeuroAdapterPipeline
    from neuroadapter_jax.studies.few_steps import FewStepsSettings, run_few_steps

    with named("--"):
        settings = FewStepsSettings(
            num_images=values.num_images,
            num_views=values.num_views,
            num_seeded=values.num_seeded,
            num_seeds=values.num_seeds,
            batch_size=values.batch_size,
            seed=values.seed,
            guidance_low=values.guidance_low,
            guidance_high=values.guidance_high,
        )
    model = NeuroAdapterPipeline.from_pretrained(values.model)
    distilled = None
    if values.distilled is not None:
        distilled = NeuroAdapterPipeline.from_pretrained(values.distilled)
    run_few_steps(
        model,
        distilled,
        values.prepared,
        values.root,
        values.out,
        settings,
        progress=values.progress,
    )
    print(f"Written: {values.out}/few-steps.md, {values.out}/results.json")
