"""Kills commands at random moments and compares what they make in the end, bit by bit.

    python tests/kill_runs.py --out DIR [--kills 100] [--seed 0] [--commands train,reconstruct]

For each of train, train-encoder, prepare, reconstruct and interpret: one run that nothing disturbs,
then chains of runs that SIGKILL ends at a random moment, each started again in the folder that the
last one left, until it may come to its end. All files of the result are then compared with those of
the undisturbed run; timing.jsonl, which holds seconds, is left out, and checkpoints are compared
array by array. DIR/kills.jsonl has a line for every kill and every comparison; the same command
goes on where it was interrupted. pytest does not collect this file.

Each run is a fork of this process, which has imported everything but computed nothing, since a
start from nothing would take most of the time.
"""

import argparse
import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

KILLS_PER_CHAIN = 10
COMMANDS = ("prepare", "train", "train-encoder", "reconstruct", "interpret")
CONFIG = """
import importlib.util

def get_config():
    spec = importlib.util.spec_from_file_location("base", {base!r})
    base = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(base)
    config = base.get_config()
    config.backbone = {backbone!r}
    config.progress = False
    config.data.simulation = None
    config.data.root = {root!r}
    config.data.prepared = {prepared!r}
    config.data.num_validation = 4
    config.data.parcellation = {parcellation!r}
    config.{section}.update({values!r})
    return config
"""
TRAIN = {
    "num_regions": 6, "batch_size": 4, "num_steps": 24, "warmup_steps": 3, "ema_decay": 0.9,
    "drop_rate": "uniform", "repeats": "random", "log_every": 1, "evaluate_every": 12,
    "checkpoint_every": 5, "sample_steps": 2,
}  # fmt: skip
ENCODER = {
    "blocks": (2, 0), "num_heads": 3, "mlp_width": 7, "row_length": 16, "batch_size": 4,
    "num_steps": 20, "warmup_steps": 2, "log_every": 1, "evaluate_every": 4, "checkpoint_every": 3,
}  # fmt: skip


def in_fork(
    work: Callable[[], object], log: pathlib.Path, kill_after: float | None = None
) -> tuple[int, float]:
    """Runs work in a fork whose output goes to a file.

    Time is the fork's own on the processor, so that it does not matter what else runs beside it.

    Args:
        work: what to run.
        log: the file.
        kill_after: seconds after which SIGKILL ends it; None for never.

    Returns:
        Its exit code, or minus the signal; and how many seconds it ran.
    """
    child = os.fork()
    if child == 0:
        code = 70
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            work()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    ticks = os.sysconf("SC_CLK_TCK")
    while True:
        ended, status, used = os.wait4(child, 0 if kill_after is None else os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        fields = pathlib.Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        if kill_after is not None and sum(map(int, fields[11:13])) >= kill_after * ticks:
            os.kill(child, signal.SIGKILL)
            kill_after = None
        time.sleep(0.002)


def call(command: str, *arguments: object) -> Callable[[], None]:
    """A command of the program, as work for a fork."""
    from neuroadapter_jax.commands.program import run_command

    return lambda: run_command(command, [str(argument) for argument in arguments])


def import_everything() -> None:
    """What the commands import, so that forks need not."""
    import tensorflow_datasets  # noqa: F401

    import neuroadapter_jax.datasets.tfds
    import neuroadapter_jax.decoders.low_level_start
    import neuroadapter_jax.decoders.neuroadapter
    import neuroadapter_jax.figures.interpretation_report
    import neuroadapter_jax.studies.interpretation
    import neuroadapter_jax.training.brain_encoder
    import neuroadapter_jax.training.train
    import neuroadapter_jax.training.validation  # noqa: F401


class World:
    """What the commands are given: a small simulated subject, tiny models, config files."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.prepared, self.trained = folder / "whole" / "prepare", folder / "whole" / "train"

    def make(self) -> None:
        """Writes everything but what the commands themselves make."""
        import tiny_backbone
        import tiny_pipeline
        import tiny_prepared
        from flax import nnx

        from neuroadapter_jax.encoder.vit import Dinov2Config, Dinov2Model
        from neuroadapter_jax.encoder.weights import save_dinov2
        from neuroadapter_jax.simulation import subject
        from neuroadapter_jax.simulation.nsd_writer import write_nsd

        subject.CALIBRATION_SCENES = 53
        config = subject.SubjectConfig(
            num_images=24, num_shared=5, trials_per_session=36, regions_per_hemisphere=11, seed=3
        )
        root = write_nsd(self.folder / "nsd", config, progress=False)
        backbone = tiny_backbone.write_backbone(self.folder / "backbone")
        vit = Dinov2Config(12, 2, 3, 2, image_size=64, patch_size=16)
        save_dinov2(self.folder / "vit", Dinov2Model(vit, rngs=nnx.Rngs(0)))
        tiny_pipeline.make_pipeline(backbone).save_pretrained(self.folder / "model")
        tiny_prepared.write_prepared(self.folder / "few", self.folder / "few_nsd")
        rois = {"left": ["lh.a", "lh.b"], "d": ["rh.d"]}
        (self.folder / "rois.json").write_text(json.dumps(rois))
        label = root / "nsddata/freesurfer/fsaverage5/label"
        for name, base, section, values in (
            ("train", "demo", "train", TRAIN),
            (
                "encoder",
                "encoder_demo",
                "encoder",
                ENCODER | {"backbone": str(self.folder / "vit")},
            ),
        ):
            text = CONFIG.format(
                base=str(ROOT / "configs" / f"{base}.py"),
                backbone=str(backbone),
                root=str(root),
                prepared=str(self.prepared),
                parcellation=tuple(str(p) for p in sorted(label.glob("*Parcels.annot"))),
                section=section,
                values=values,
            )
            (self.folder / f"{name}.py").write_text(text)

    def command(self, name: str, out: pathlib.Path) -> Callable[[], None]:
        """The command that makes a folder."""
        train, encoder = self.folder / "train.py", self.folder / "encoder.py"
        few = ["--num_steps=3", "--noprogress"]
        return {
            "prepare": lambda: call(name, f"--config={train}", f"--config.data.prepared={out}"),
            "train": lambda: call(name, f"--config={train}", f"--workdir={out}"),
            "train-encoder": lambda: call(name, f"--config={encoder}", f"--workdir={out}"),
            "reconstruct": lambda: call(
                name, f"--run={self.trained}", f"--prepared={self.prepared}", f"--out={out}",
                "--num_candidates=2", "--batch_size=1", *few,
            ),
            "interpret": lambda: call(
                name, f"--model={self.folder / 'model'}", f"--prepared={self.folder / 'few'}",
                f"--rois={self.folder / 'rois.json'}", f"--out={out}", "--split=train",
                "--num_shown=2", "--group_size=1", few[0],
            ),
        }[name]()  # fmt: skip


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file of a result by its name; of checkpoints and views, every array.

    A netCDF file holds the time at which it was written beside its arrays.
    Hidden files, which a killed run leaves where it was writing one, belong to no result.
    """
    import jax
    import orbax.checkpoint as ocp
    import xarray

    from neuroadapter_jax.commands.machine import use_cpu_cores

    use_cpu_cores(TRAIN["batch_size"])  # the devices that the checkpoints were written on
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.is_file() and not ("checkpoints" in parts or hidden or path.name == "timing.jsonl"):
            name = "/".join(parts)
            if path.suffix != ".nc":
                found[name] = path.read_bytes()
                continue
            views = xarray.load_dataset(path, engine="h5netcdf")
            found[name] = json.dumps(views.to_dict(data=False), default=str).encode()
            found |= {f"{name}:{key}": array.values.tobytes() for key, array in views.items()}
        if path.is_dir() and path.name == "state" and "checkpoints" in parts:
            state = ocp.StandardCheckpointer().restore(path.absolute())
            for place, leaf in jax.tree_util.tree_leaves_with_path(state):
                name = "/".join(parts) + jax.tree_util.keystr(place)
                found[name] = np.asarray(leaf).tobytes()
    return found


def compare(folder: pathlib.Path, whole: pathlib.Path, report: pathlib.Path) -> None:
    """Writes the names of what differs, or is in one of the folders only."""
    ours, theirs = contents(folder), contents(whole)
    names = sorted(ours.keys() | theirs.keys())
    differing = [name for name in names if ours.get(name) != theirs.get(name)]
    hidden = [path.stat().st_size for path in folder.rglob(".*") if path.is_file()]
    left = {"files": len(hidden), "bytes": sum(hidden)}
    content = {"compared": len(names), "differing": differing, "left_over": left}
    report.write_text(json.dumps(content))


def kill_chain(
    world: World, name: str, chain: int, kills: int, seconds: float, seed: int, note: Callable
) -> None:
    """One chain: kills at random moments, a run to the end, and the comparison."""
    out = world.folder / "killed" / f"{name}-{chain}"
    log = world.folder / "logs" / f"{name}-{chain}.log"
    rng = np.random.default_rng([seed, COMMANDS.index(name), chain])
    done = 0
    while done < kills:
        after = float(rng.uniform(0, seconds))
        code, _ = in_fork(world.command(name, out), log, kill_after=after)
        if code not in (0, -signal.SIGKILL):
            note(command=name, chain=chain, failed=code, log=str(log))
            return
        done += code != 0
        note(command=name, chain=chain, killed=code != 0, after=round(after, 3))
        if code == 0:  # it was faster than the clock: the kills that are left begin anew
            finish(world, name, out, chain, note)
            out = out.with_name(f"{out.name}-{done}")
    code, _ = in_fork(world.command(name, out), log)
    if code:
        note(command=name, chain=chain, failed=code, log=str(log))
        return
    finish(world, name, out, chain, note)


def finish(world: World, name: str, out: pathlib.Path, chain: int, note: Callable) -> None:
    """Compares a folder that a run came to the end of."""
    report = world.folder / "logs" / f"{out.name}.json"
    whole = world.folder / "whole" / name
    log = world.folder / "logs" / "compare.log"
    assert in_fork(lambda: compare(out, whole, report), log)[0] == 0, log
    note(command=name, chain=chain, **json.loads(report.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", default=",".join(COMMANDS))
    options = parser.parse_args()
    folder = options.out.resolve()
    for name in ("logs", "killed", "whole"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # Its own, and complete after the undisturbed runs.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "cache")
    lines = folder / "kills.jsonl"
    known = [json.loads(x) for x in lines.read_text().splitlines()] if lines.exists() else []

    def note(**values: object) -> None:
        known.append(values)
        with lines.open("a") as file:
            file.write(json.dumps(values) + "\n")
        print(json.dumps(values), flush=True)

    import_everything()
    world = World(folder)
    if not (folder / "encoder.py").exists():
        assert in_fork(world.make, folder / "logs" / "make.log")[0] == 0, folder / "logs/make.log"
    commands = [name for name in COMMANDS if name in options.commands.split(",")]
    per_command = -(-options.kills // len(commands))
    for name in commands:
        out = folder / "whole" / name
        seconds = next((x["seconds"] for x in known if x.get("whole") == name), None)
        if seconds is None:
            log = folder / "logs" / f"{name}.log"
            code, _ = in_fork(world.command(name, out), log)
            assert code == 0, f"{name} ended with {code}; see {log}"
            again = folder / "whole" / f"{name}-again"  # now that everything is compiled
            code, seconds = in_fork(world.command(name, again), log)
            assert code == 0, log
            note(whole=name, seconds=round(seconds, 2))
            finish(world, name, again, -1, note)
        chains = -(-per_command // KILLS_PER_CHAIN)
        for chain in range(chains):
            of_chain = [x for x in known if (x.get("command"), x.get("chain")) == (name, chain)]
            if any("compared" in x for x in of_chain):
                continue
            left = min(KILLS_PER_CHAIN, per_command - chain * KILLS_PER_CHAIN)
            left -= sum(x.get("killed", False) for x in of_chain)
            # Another seed than before the interruption, or the same moments would come again.
            kill_chain(world, name, chain, left, seconds, options.seed + len(of_chain), note)
    kills = sum(x.get("killed", False) for x in known)
    ends = [x for x in known if "compared" in x]
    differing = sorted({name for x in ends for name in x["differing"]})
    failed = [x for x in known if "failed" in x]
    left = {key: sum(x["left_over"][key] for x in ends) for key in ("files", "bytes")}
    print(f"{kills} kills, {len(ends)} runs compared, {len(failed)} failed; differing: {differing}")
    print(f"Temporary files that kills left: {left}")


if __name__ == "__main__":
    main()
