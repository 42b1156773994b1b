"""The steps that make a valid folder wrong; every path is below the row's own folder."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from prepared_records import change_responses
from safetensors.numpy import load_file, save_file
from wrong_commands.row import Step
from wrong_commands.world import run

Words = Mapping[str, str]
HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body></body></html>\n"
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 3670008\n"
)


def copy(word: str, to: str | None = None) -> Step:
    """The world's folder or file of this word, as {tmp}/`to`, or under its own name."""

    def step(tmp: Path, words: Words) -> None:
        source = Path(words[word])
        target = tmp / (to or source.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)

    return step


def own_backbone(model: str = "model") -> tuple[Step, ...]:
    """A model with a backbone of its own, {tmp}/backbone."""
    return (
        copy("model", model),
        copy("backbone"),
        edit(f"{model}/config.json", backbone="{tmp}/backbone"),
    )


def _on_file(change: Callable[[Path], None]) -> Callable[[str], Step]:
    """A step over one file, or over all that a pattern finds."""

    def of(pattern: str) -> Step:
        def step(tmp: Path, words: Words) -> None:
            paths = sorted(tmp.glob(pattern))
            assert paths, f"{tmp} has no {pattern}"
            for path in paths:
                change(path)

        return step

    return of


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


truncated = _on_file(_shorten)
emptied = _on_file(lambda path: path.write_bytes(b""))
html = _on_file(lambda path: path.write_bytes(HTML))
pointer = _on_file(lambda path: path.write_bytes(POINTER))
flipped = _on_file(_flip)
removed = _on_file(lambda path: shutil.rmtree(path) if path.is_dir() else path.unlink())


def text(path: str, content: str) -> Step:
    """A file of this text."""

    def step(tmp: Path, words: Words) -> None:
        (tmp / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp / path).write_text(content)

    return step


def made(make: Callable[[Path], object], path: str) -> Step:
    """What a function writes into a folder."""

    def step(tmp: Path, words: Words) -> None:
        make(tmp / path)

    return step


def prepared_shard(path: str, shard: str) -> Step:
    """One shard of the world's records, on its way to a prepared folder."""
    line = "prepare --config {config} --config.data.prepared={tmp}/" + f"{path} --shard={shard}"
    return lambda tmp, words: run(line, {**words, "tmp": str(tmp)})


def folder(path: str) -> Step:
    """An empty folder."""
    return lambda tmp, words: (tmp / path).mkdir(parents=True)


def link(path: str, target: str) -> Step:
    """A symbolic link."""
    return lambda tmp, words: (tmp / path).symlink_to(target)


def moved(path: str, to: str) -> Step:
    """A file under another name."""
    return lambda tmp, words: (tmp / path).rename(tmp / to)


def exchanged(one: str, other: str) -> Step:
    """Two files under each other's name."""

    def step(tmp: Path, words: Words) -> None:
        held = tmp / f"{one}.held"
        (tmp / one).rename(held)
        (tmp / other).rename(tmp / one)
        held.rename(tmp / other)

    return step


def edit(path: str, **values: Any) -> Step:
    """Other values in a JSON file; a__b is key b of a, and None takes a key away."""

    def step(tmp: Path, words: Words) -> None:
        content = json.loads((tmp / path).read_text())
        for name, value in values.items():
            *places, key = name.split("__")
            part = content
            for place in places:
                part = part[int(place)] if isinstance(part, list) else part[place]
            if isinstance(value, str):
                value = value.replace("{tmp}", str(tmp))
            if value is None:
                del part[key]
            else:
                part[key] = value
        (tmp / path).write_text(json.dumps(content))

    return step


def arrays(path: str, **changes: Callable[[np.ndarray], np.ndarray] | None) -> Step:
    """Other arrays in an npz file; None takes one away."""

    def step(tmp: Path, words: Words) -> None:
        with np.load(tmp / path) as file:
            content = dict(file)
        for name, change in changes.items():
            if change is None:
                del content[name]
            else:
                content[name] = change(content[name])
        np.savez(tmp / path, **content)

    return step


def new_arrays(path: str, **content: Any) -> Step:
    """An npz file."""
    return lambda tmp, words: np.savez(tmp / path, **content)


def array(path: str, content: Any) -> Step:
    """An npy file; objects are written as a pickle."""
    return lambda tmp, words: np.save(tmp / path, content, allow_pickle=True)


def tensors(path: str, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Step:
    """Other tensors in a safetensors file."""

    def step(tmp: Path, words: Words) -> None:
        save_file(change(dict(load_file(tmp / path))), tmp / path)

    return step


def one_value(number: float) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """The first tensor with one value replaced."""

    def change(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        name = sorted(found)[0]
        value = found[name].copy()
        value.flat[0] = number
        return found | {name: value}

    return change


def without_one(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The first tensor is missing."""
    return {name: found[name] for name in sorted(found)[1:]}


def wrong_shape(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The first tensor is longer by one."""
    name = sorted(found)[0]
    return found | {name: np.concatenate([found[name], found[name][:1]])}


def records_of(**request: Any) -> tuple[Step, ...]:
    """{tmp}/prepared, the records of another subject, normalisation or the like."""
    return (
        copy("prepared"),
        edit("prepared/provenance.json", **{f"request__{k}": v for k, v in request.items()}),
    )


def responses(change: Callable[[np.ndarray], np.ndarray], split: str = "test") -> Step:
    """{tmp}/prepared with other responses in a split."""

    def step(tmp: Path, words: Words) -> None:
        change_responses(tmp / "prepared", split, change)

    return step


def first_value(number: float) -> Callable[[np.ndarray], np.ndarray]:
    """An array whose first value is another."""

    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values.flat[0] = number
        return values

    return change


def config(name: str, base: str, *lines: str) -> Step:
    """{tmp}/NAME.py: a config of the world with some lines before its end."""

    def step(tmp: Path, words: Words) -> None:
        content = Path(words[base]).read_text()
        added = "\n".join(f"    {line}".format(**words) for line in lines)
        (tmp / f"{name}.py").write_text(
            content.replace("    return config", f"{added}\n    return config")
        )

    return step


def annot(path: str, labels: Any, names: list[str], colours: Any = None) -> Step:
    """A FreeSurfer annotation file."""

    def step(tmp: Path, words: Words) -> None:
        from nibabel.freesurfer import write_annot

        table = np.zeros((len(names), 5), np.int64) if colours is None else np.array(colours)
        if colours is None:
            table[:, 0] = np.arange(len(names)) * 5 + 10
            table[:, 1] = np.arange(len(names)) // 40
        write_annot(str(tmp / path), np.asarray(labels), table[:, :5], names, fill_ctab=True)

    return step


def surface(path: str, values: Any) -> Step:
    """An mgz file of one number per vertex."""

    def step(tmp: Path, words: Words) -> None:
        import nibabel

        data = np.asarray(values).reshape(-1, 1, 1)
        nibabel.MGHImage(data, np.eye(4)).to_filename(tmp / path)

    return step


def mesh(path: str, count: int) -> Step:
    """A FreeSurfer mesh of so many vertices."""
    import nibabel
    from scipy.spatial import ConvexHull

    def step(tmp: Path, words: Words) -> None:
        (tmp / path).parent.mkdir(parents=True, exist_ok=True)
        points = np.random.default_rng(0).standard_normal((count, 3))
        nibabel.freesurfer.write_geometry(tmp / path, points, ConvexHull(points).simplices)

    return step


def picture(path: str, side: int = 64, mode: str = "RGB") -> Step:
    """A grey picture."""

    def step(tmp: Path, words: Words) -> None:
        from PIL import Image

        (tmp / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (side, side), 128).save(tmp / path)

    return step


def as_run(line: str) -> Step:
    """A valid command, whose folder the row then goes on with."""

    def step(tmp: Path, words: Words) -> None:
        from wrong_commands.world import run

        run(line, words | {"tmp": str(tmp), "out": str(tmp / "out")})

    return step
