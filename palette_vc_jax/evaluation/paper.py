"""The paper's two tables, with measured and published values.

The tables are I and II of 'Consistent Video Colorization via Palette Guidance', on DAVIS 2017. The
paper does not name its variants of FID, FVD and SSIM, or the number of frames in a video of FVD, so
its values are quoted but not comparable. Its SSIM must be that of luma.
"""

from collections.abc import Mapping
from pathlib import Path

from palette_vc_jax.cli import escaped
from palette_vc_jax.evaluation.results import Results
from palette_vc_jax.evaluation.tables import aligned, number
from palette_vc_jax.files import check_regular, read_json
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.palette.text import parse_colors

COLUMNS = {  # heading -> metric
    "Colorful": "colorfulness",
    "FID": "fid",
    "FVD": "fvd",
    "PSNR": "psnr_rgb",
    "SSIM": "ssim_y",
    "LPIPS": "lpips_alex",
}
TABLE_1 = {
    "DeOldify": (20.47, 54.28, 648, 23.57, 0.9937, 0.1972),
    "VCGAN": (14.46, 74.52, 889, 22.85, 0.9053, 0.3090),
    "TCVC": (21.77, 71.25, 776, 24.69, 0.9973, 0.1798),
    "ours (B)": (22.64, 53.76, 590, 23.89, 0.9993, 0.1776),
}
TABLE_2 = {
    "A": (19.34, 54.63, 628),
    "B": (22.64, 53.76, 590),
    "C": (34.92, 53.47, 637),
    "D": (25.55, 50.40, 562),
}
ABLATIONS = {
    "A": "no palette",
    "B": "mixture",
    "C": "words",
    "D": "first true frame",
}
NULL = "null palette, not retrained"


def load_palettes(path: Path, clips: list[str]) -> dict[str, Palette]:
    """Read a palette for each clip from JSON: `{"clip": ["#rrggbb", ...], ...}`.

    Raises:
        ValueError: if the file has another format, or no colors for a clip.
    """
    check_regular(path)
    try:
        values = read_json(path)
        if not all(isinstance(values[clip], list) for clip in clips):
            raise TypeError
        colors = {clip: ",".join(values[clip]) for clip in clips}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give JSON from clips to colors.") from None
    except KeyError as error:
        raise ValueError(f"{path}: has no colors for clip {error}; add them.") from None
    except (ValueError, TypeError):
        raise ValueError(f'{path}: not JSON of the form {{"clip": ["#rrggbb", ...]}}.') from None
    try:
        return {clip: parse_colors(text, f"file:{path.name}") for clip, text in colors.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def tables(results: Results, titles: Mapping[str, str]) -> str:
    """Return tables I and II, with a dash for values that the paper does not have.

    Args:
        results: rows of the ablations in `titles`, and of other methods.
        titles: row of an ablation -> its title.
    """
    others = [row for row in results.clips if row not in titles]
    first = [(row, row, TABLE_1.get(row, ())) for row in others]
    if "B" in titles:
        first.append(("ours (B)", "B", TABLE_1["ours (B)"]))
    second = [(f"{row}: {title}", row, TABLE_2[row]) for row, title in titles.items()]
    return "\n\n".join(
        [
            _table("Table I", list(COLUMNS), first, results),
            _table("Table II", list(COLUMNS)[:3], second, results),
            "measured / published in the paper. SSIM is of luma, LPIPS alex, FID pytorch-fid's, "
            "FVD of videos of 16 frames.",
        ]
    )


def _table(
    title: str, columns: list[str], rows: list[tuple[str, str, tuple[float, ...]]], results: Results
) -> str:
    lines = [[title, *columns]]
    for name, row, quoted in rows:
        cells = [number(results.mean(row, COLUMNS[column])) for column in columns]
        published = [f"{value:g}" for value in quoted] or ["-"] * len(columns)
        lines.append(
            [escaped(name), *(f"{a} / {b}" for a, b in zip(cells, published, strict=True))]
        )
    return "\n".join(aligned(lines, left=1))
