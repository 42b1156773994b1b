"""FreeSurfer's and GIFTI files as nibabel reads them, once their bytes are known to be whole."""

import gzip
import math
import os
import re
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Integer

from neuroadapter_jax.errors import InputError, reading, stand_in
from neuroadapter_jax.files import write_file

MGH_HEADER_BYTES = 284
_MOST_LABELS = 1 << 20  # entries of a table of colours; FreeSurfer's own largest number is 14,175


def open_mgh(
    path: str | os.PathLike,
    expected: str = "a FreeSurfer file of values per vertex (.mgh, .mgz)",
    remedy: str = "",
) -> nib.MGHImage:
    """An .mgh or .mgz file that is as long as its header promises; a .mgz read and checked whole.

    Args:
        path: the file.
        expected: what it should be, for the message.
        remedy: what to do; when empty, one that fits what was found.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is cut short, damaged or no such file.
    """
    path = Path(path)

    def truncated(size: int, promised: str) -> InputError:
        advice = remedy or "copy or download it again"
        return InputError(f"{path} is truncated: it has {size} bytes, {promised}; {advice}.")

    with reading(path, expected, remedy), np.errstate(all="ignore"):
        if path.name.endswith("z"):
            with gzip.open(path) as file:
                content = file.read()  # to its end, where the checksum is
            size = len(content)
        else:
            size = path.stat().st_size
        if size < MGH_HEADER_BYTES and stand_in(path) is None:
            raise truncated(size, f"less than the {MGH_HEADER_BYTES} of a header")
        if path.name.endswith("z"):
            image = nib.MGHImage.from_bytes(content)
        else:
            image = nib.MGHImage.from_filename(path)
        shape = tuple(map(int, image.shape))
        if min(shape) < 1:
            raise ValueError(f"its header has the shape {shape}")
        promised = MGH_HEADER_BYTES + math.prod(shape) * image.get_data_dtype().itemsize
    if size < promised:
        raise truncated(size, f"but its header promises {promised}")
    return image


def read_mgh(
    path: str | os.PathLike,
    expected: str = "a FreeSurfer file of values per vertex (.mgh, .mgz)",
    remedy: str = "",
) -> np.ndarray:
    """The values of an .mgh or .mgz file as they are stored, in its shape; see `open_mgh`.

    Args:
        path: the file, of one hemisphere.
        expected: what it should be, for the message.
        remedy: what to do; when empty, one that fits what was found.
    """
    image = open_mgh(path, expected, remedy)
    with reading(path, expected, remedy):
        return np.asanyarray(image.dataobj)


def read_annot(
    path: str | os.PathLike,
) -> tuple[Integer[np.ndarray, " n"], Integer[np.ndarray, "k 5"], list[str]]:
    """The colour of each vertex, the table of colours and the names of an .annot file.

    Args:
        path: the file, of one hemisphere.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is cut short, damaged or no such file.
    """
    with reading(path, "a FreeSurfer .annot file"):
        size = Path(path).stat().st_size
        (vertices,) = np.fromfile(path, ">i4", 1).tolist()
        if not 0 < vertices <= size // 8:
            raise ValueError(f"it promises {vertices} vertices in {size} bytes")
        entries = np.fromfile(path, ">i4", 3, offset=4 + 8 * vertices)[1:]
        if entries.max(initial=0) > _MOST_LABELS:
            raise ValueError(f"it promises a table of {entries.max()} labels")
        values, table, names = nib.freesurfer.read_annot(path, orig_ids=True)
        # nibabel's table has a row for every number, its names are those of the file alone.
        if len(table) != len(names):
            raise ValueError(f"it names {len(names)} of the {len(table)} labels of its table")
        return (
            values,
            table,
            [n.decode(errors="replace") if isinstance(n, bytes) else str(n) for n in names],
        )


def read_geometry(
    path: str | os.PathLike,
) -> tuple[Float[np.ndarray, "n 3"], Integer[np.ndarray, "k 3"]]:
    """Points and triangles of a FreeSurfer mesh such as lh.inflated or lh.pial.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is cut short, damaged or no such file.
    """
    with reading(path, "a FreeSurfer mesh of triangles, such as lh.inflated"):
        with open(path, "rb") as file:
            if file.read(3) != b"\xff\xff\xfe":
                raise ValueError("it does not begin as one")
            file.readline()
            file.readline()
            points, faces = np.fromfile(file, ">i4", 2).tolist()
            rest = Path(path).stat().st_size - file.tell()
        if min(points, faces) < 1 or 12 * (points + faces) > rest:
            raise ValueError(f"it promises {points} vertices and {faces} triangles in {rest} bytes")
        with warnings.catch_warnings():  # of what may follow the triangles, which is not needed
            warnings.simplefilter("ignore")
            return nib.freesurfer.read_geometry(path)


def read_sulcal_depth(path: str | os.PathLike) -> Float[np.ndarray, " n"]:
    """A number per vertex of a FreeSurfer file of its newer kind, such as lh.sulc or lh.curv.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is cut short, damaged or no such file.
    """
    with reading(path, "a FreeSurfer file of a number per vertex, such as lh.sulc"):
        with open(path, "rb") as file:
            if file.read(3) != b"\xff\xff\xff":
                raise ValueError("it does not begin as one")
            count = int(np.fromfile(file, ">i4", 1)[0])
        size = Path(path).stat().st_size
        if count < 1 or 15 + 4 * count > size:
            raise ValueError(f"it promises {count} vertices in {size} bytes")
        values = nib.freesurfer.read_morph_data(path).astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds a number that is not finite")
        return values


def read_gifti(path: str | os.PathLike) -> nib.GiftiImage:
    """A GIFTI file with all of its arrays in memory.

    Args:
        path: the file.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is cut short, damaged or no such file.
    """
    with reading(path, "a GIFTI file (.gii)"):
        image = nib.GiftiImage.from_filename(path)
        for array in image.darrays:
            np.asarray(array.data)
        return image


def write_surface_maps(
    folder: str | os.PathLike,
    name: str,
    values: Float[np.ndarray, " n"],
    num_vertices: tuple[int, int],
) -> list[Path]:
    """Write a number per vertex as files that other programs show, in both of their formats.

    `lh.NAME.mgh` and `rh.NAME.mgh` for FreeSurfer (freeview's overlay);
    `NAME_hemi-L.shape.gii` and `NAME_hemi-R.shape.gii` for Connectome Workbench and nilearn.

    Args:
        folder: gets the files.
        name: of the map, without blanks and slashes.
        values: left hemisphere then right, written as float32; not a number becomes 0, which
            FreeSurfer does not paint.
        num_vertices: of the left and of the right hemisphere.

    Returns:
        The files.

    Raises:
        InputError: another number of values, or a name that is no file's.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex.surface_files import write_surface_maps
        >>> folder = tempfile.mkdtemp()
        >>> files = write_surface_maps(folder, "share", np.zeros(6), num_vertices=(3, 3))
        >>> sorted(file.name for file in files)
        ['lh.share.mgh', 'rh.share.mgh', 'share_hemi-L.shape.gii', 'share_hemi-R.shape.gii']
    """
    if values.shape != (sum(num_vertices),):
        raise InputError(
            f"values has the shape {values.shape}; expected one per vertex of both hemispheres, "
            f"({sum(num_vertices)},)."
        )
    if not re.fullmatch(r"[\w.+-]+", name) or name.startswith("."):
        raise InputError(
            f"name is {name!r}; expected letters, digits, dots, hyphens, plus signs and "
            "underscores, since it is part of the files' names."
        )
    written = []
    sides = (("lh", "L", "CortexLeft"), ("rh", "R", "CortexRight"))
    known = np.nan_to_num(np.asarray(values, np.float32), posinf=np.inf, neginf=-np.inf)
    for (side, letter, structure), own in zip(
        sides, np.split(known, [num_vertices[0]]), strict=True
    ):
        array = nib.gifti.GiftiDataArray(own, intent="NIFTI_INTENT_SHAPE")
        array.meta["Name"] = name
        meta = nib.gifti.GiftiMetaData(AnatomicalStructurePrimary=structure)
        images = {
            f"{side}.{name}.mgh": nib.MGHImage(own[:, None, None], np.eye(4)),
            f"{name}_hemi-{letter}.shape.gii": nib.GiftiImage(darrays=[array], meta=meta),
        }
        for file, image in images.items():
            write_file(Path(folder) / file, image.to_filename)
            written.append(Path(folder) / file)
    return written
