"""Tables of label names: .ctab files, and those of three public atlases that come without one."""

from __future__ import annotations

import os
import re
from pathlib import Path

from neuroadapter_jax.errors import InputError, MissingFileError, reading

# Visual maps of Wang et al. 2015 (Cerebral Cortex 25:3911), of highest probability; numbered as in
# their own files. MST is also called TO2, and hMT TO1.
_WANG15 = """V1v V1d V2v V2d V3v V3d hV4 VO1 VO2 PHC1 PHC2 MST hMT LO2 LO1 V3b V3a
    IPS0 IPS1 IPS2 IPS3 IPS4 IPS5 SPL1 FEF"""
# Areas of Glasser et al. 2016 (Nature 536:171), HCP-MMP1.0, in their own order; the same numbers
# in both hemispheres.
_HCP_MMP1 = """V1 MST V6 V2 V3 V4 V8 4 3b FEF PEF 55b V3A RSC POS2 V7 IPS1 FFC V3B LO1 LO2 PIT MT
    A1 PSL SFL PCV STV 7Pm 7m POS1 23d v23ab d23ab 31pv 5m 5mv 23c 5L 24dd 24dv 7AL SCEF 6ma 7Am
    7PL 7PC LIPv VIP MIP 1 2 3a 6d 6mp 6v p24pr 33pr a24pr p32pr a24 d32 8BM p32 10r 47m 8Av 8Ad 9m
    8BL 9p 10d 8C 44 45 47l a47r 6r IFJa IFJp IFSp IFSa p9-46v 46 a9-46v 9-46d 9a 10v a10p 10pp 11l
    13l OFC 47s LIPd 6a i6-8 s6-8 43 OP4 OP1 OP2-3 52 RI PFcm PoI2 TA2 FOP4 MI Pir AVI AAIC FOP1
    FOP3 FOP2 PFt AIP EC PreS H ProS PeEc STGa PBelt A5 PHA1 PHA3 STSda STSdp STSvp TGd TE1a TE1p
    TE2a TF TE2p PHT PH TPOJ1 TPOJ2 TPOJ3 DVT PGp IP2 IP1 IP0 PFop PF PFm PGi PGs V6A VMV1 VMV3
    PHA2 V4t FST V3CD LO3 VMV2 31pd 31a VVC 25 s32 pOFC PoI1 Ig FOP5 p10p p47r TGv MBelt LBelt A4
    STSva TE1m PI a32pr p24"""
# Areas of the retinotopic template of Benson et al. 2014 (PLoS Comput Biol 10:e1003538) and its
# later versions.
_BENSON14 = "V1 V2 V3 hV4 VO1 VO2 LO1 LO2 TO1 TO2 V3b V3a"

# Part of a file's name -> names of the labels from 1 on.
KNOWN_ATLASES: dict[str, tuple[str, ...]] = {
    "wang15_mplbl": tuple(_WANG15.split()),
    "glasser16_atlas": tuple(_HCP_MMP1.split()),
    "benson14_varea": tuple(_BENSON14.split()),
}


def read_label_table(path: str | os.PathLike) -> dict[int, str]:
    """Reads a .ctab file: one "index name" pair a line, further columns ignored."""
    with reading(Path(path), "a table of label names as text"):
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    table: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < 2 or not re.fullmatch(r"-?[0-9]+", fields[0]):
            raise InputError(f"{path} line {number} is {line!r}; expected an index and a name.")
        value = int(fields[0])
        if value in table:
            raise InputError(
                f"{path} line {number} names the value {value} again, {table[value]!r} before and "
                f"{fields[1]!r} now; keep one name per value."
            )
        table[value] = fields[1]
    return table


def label_table_of(path: str | os.PathLike) -> tuple[dict[int, str], str]:
    """The table of a label file, and what it is called.

    The .ctab beside it, with or without the hemisphere in its name; else that of `KNOWN_ATLASES`.

    Raises:
        MissingFileError: none of the usual names exists, and the atlas is not known.
        InputError: the .ctab is damaged.
    """
    path = Path(path)
    bare = path.name.removeprefix("lh.").removeprefix("rh.")
    candidates = [
        path.with_name(name)
        for stem in (path.name, bare)
        for name in (f"{stem}.ctab", f"{stem.removesuffix('.mgz').removesuffix('.mgh')}.ctab")
    ]
    for candidate in candidates:
        if candidate.exists():
            return read_label_table(candidate), candidate.name
    for atlas, names in KNOWN_ATLASES.items():
        if atlas in path.name:
            return dict(enumerate(names, start=1)), f"the table of {atlas}"
    raise MissingFileError(
        f"{path} has no table of label names beside it; expected one of "
        f"{', '.join(c.name for c in candidates)}, a text file with a label's number and name in "
        f"each line, such as '1 V1v' (colours may follow)."
    )
