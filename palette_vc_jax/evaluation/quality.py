"""Assess a colored film without the truth, for `sample.py --report`: one HTML file.

The report shows how colorful the film is, how much its colors change within shots, whether its
luma equals the source's, how close each shot is to the palette, and which frames to check first.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np
from PIL import Image

from palette_vc_jax import atomic
from palette_vc_jax.metrics.adherence import PaletteDistance
from palette_vc_jax.metrics.chunk import Chunk
from palette_vc_jax.metrics.meters import METRICS
from palette_vc_jax.metrics.structure import psnr
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video import color
from palette_vc_jax.video.damage import Damage
from palette_vc_jax.video.film import Film, open_film
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.rgb import read_rgb

WORST = 3  # number of frames shown for each measure
THUMBNAIL = 240  # width in pixels
POINTS = 600  # maximum number of points of a curve


class Quality(NamedTuple):
    """The measures of a film, with nan for frames without a value."""

    colorfulness: np.ndarray  # [T]
    change: np.ndarray  # [T], CDC of a*b* to the previous frame of the shot, 0 to ln 2
    luma: np.ndarray  # [T], PSNR of Y' to the source's in dB; infinite where equal
    palettes: dict[Shot, float]  # distance of a shot's middle frame to the palette, a*b* units


def measure(source: Film, output: Film, shots: Sequence[Shot], palette: Palette | None) -> Quality:
    """Measure a colored film frame by frame, with one frame of each film in memory.

    Args:
        source: the gray film.
        output: the film colored from it.
        shots: half-open ranges of frames that cover the film in order.
        palette: the requested palette, if any.
    """
    colorful, change, palettes = [], [], {}
    frames = read_rgb(output)
    for start, stop in shots:
        # Each shot has new meters, because a change of color at a cut must not count.
        colorfulness, cdc = METRICS["colorfulness"].meter(), METRICS["cdc_ab"].meter()
        distance = palette and PaletteDistance(palette, stop - start)
        for frame in islice(frames, stop - start):
            chunk = Chunk(frame[None])
            colorful.append(colorfulness.measure(chunk, chunk)[0])
            change.append(cdc.changes(chunk)[0, 0])
            if distance:
                distance.update(chunk, chunk)
        if distance:
            palettes[start, stop] = distance.compute()
    pairs = zip(read_frames(source), read_frames(output), strict=True)
    # A playable copy of a film of odd size has one more row or column.
    whole = slice(source.height), slice(source.width)
    luma = [_luma_psnr(a.luma, source, b.luma[whole], output) for a, b in pairs]
    return Quality(np.array(colorful), np.array(change), np.array(luma), palettes)


def worst_frames(quality: Quality) -> dict[int, str]:
    """Return the frames to check first, and the reasons."""
    found: dict[int, str] = {}
    kinds = {
        "least colorful": (quality.colorfulness, "{:.1f}"),
        "largest change of color": (-quality.change, "{:.4f}"),
        "luma farthest from the source's": (quality.luma, "{:.1f} dB"),
    }
    for why, (values, form) in kinds.items():
        order = np.argsort(np.where(np.isfinite(values), values, np.inf), kind="stable")
        for index in order[:WORST]:
            if np.isfinite(values[index]):
                text = f"{why}, {form.format(abs(values[index]))}"
                found[int(index)] = "; ".join(filter(None, [found.get(int(index)), text]))
    return dict(sorted(found.items()))


def write_report(
    path: Path,
    source: Film,
    output: Path,
    shots: Sequence[Shot],
    palette: Palette | None,
    damage: Sequence[Damage] = (),
) -> None:
    """Measure the film `output`, colored from `source`, and write the report.

    Args:
        path: the HTML file to write.
        source: the gray film.
        output: the film colored from it.
        shots: half-open ranges of frames that cover the film in order.
        palette: the requested palette, if any.
        damage: the damaged frames of the source.
    """
    film = open_film(output)
    quality = measure(source, film, shots, palette)
    worst = worst_frames(quality)
    images = {i: frame for i, frame in enumerate(read_rgb(film)) if i in worst}
    figures = [
        _figure(images[i], f"frame {i}, {float(i / film.rate):.2f} s: {why}")
        for i, why in worst.items()
    ]
    template = Template(files(__package__).joinpath("quality.html").read_text(encoding="utf-8"))
    page = template.substitute(
        name=html.escape(output.name),
        thumbnail=THUMBNAIL,
        swatch=_swatch(palette),
        summary=_summary(quality, shots),
        colorfulness=_curve(quality.colorfulness),
        change=_curve(quality.change),
        frames="".join(figures),
        shots=_shot_rows(quality, shots),
        damage=_damaged_frames(damage),
    )
    atomic.write_text(path, page)


def _luma_psnr(mine: np.ndarray, source: Film, other: np.ndarray, output: Film) -> float:
    if (source.depth, source.full_range) == (output.depth, output.full_range):
        if np.array_equal(mine, other):
            return float("inf")
    grays = color.gray(mine, source), color.gray(other, output)
    return float(psnr(*(255.0 * gray[None] for gray in grays))[0])


def _summary(quality: Quality, shots: Sequence[Shot]) -> str:
    exact = int(np.isposinf(quality.luma).sum())
    finite = quality.luma[np.isfinite(quality.luma)]
    rows = {
        "frames, shots": f"{len(quality.colorfulness)}, {len(shots)}",
        "colorfulness (Hasler-Suesstrunk)": f"{quality.colorfulness.mean():.1f} in the mean, "
        f"{quality.colorfulness.min():.1f} to {quality.colorfulness.max():.1f}",
        "change of a*b* from frame to frame (CDC, stride 1)": _mean(quality.change, "{:.4f}"),
        "luma": f"equal to the source's in {exact} of {len(quality.luma)} frames"
        + (f", else {finite.min():.1f} dB or better" if len(finite) else ""),
        "distance to the palette, a*b* units": _mean(quality.palettes.values(), "{:.1f}"),
    }
    return "".join(f"<tr><th>{html.escape(k)}<td>{html.escape(v)}" for k, v in rows.items())


def _shot_rows(quality: Quality, shots: Sequence[Shot]) -> str:
    rows = ""
    for start, stop in shots:
        cells = [
            f"{start} to {stop - 1}",
            f"{quality.colorfulness[start:stop].mean():.1f}",
            _mean(quality.change[start:stop], "{:.4f}"),
            _mean([quality.palettes.get((start, stop))], "{:.1f}"),
        ]
        rows += "<tr><td>" + "<td>".join(cells)
    return rows


def _damaged_frames(damage: Sequence[Damage]) -> str:
    if not damage:
        return ""
    rows = "".join(
        f"<tr><td>{item.frame}<td>{item.seconds:.2f}<td>{html.escape(item.note or item.what)}"
        for item in damage
    )
    head = "<tr><th>frame of the source<th>seconds<th>what was done"
    return f"<h2>Damaged frames</h2><table>{head}{rows}</table>"


def _swatch(palette: Palette | None) -> str:
    codes = palette.hex() if palette else []
    return "".join(f'<i style="background:{code}"></i>' for code in codes)


def _mean(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return form.format(np.mean(known)) if known else "-"


def _figure(frame: np.ndarray, caption: str) -> str:
    image = Image.fromarray(frame)
    image.thumbnail((THUMBNAIL, 4 * THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    source = f"data:image/jpeg;base64,{data}"
    return f'<figure><img src="{source}"><figcaption>{html.escape(caption)}</figcaption></figure>'


def _curve(values: np.ndarray) -> str:
    """Return an SVG curve of values over frames; a point is the maximum over its frames."""
    values = np.nan_to_num(values, nan=0.0)
    parts = np.array_split(values, min(POINTS, len(values)))
    peaks = np.array([part.max() for part in parts])
    top = max(float(peaks.max()), 1e-9)
    points = " ".join(f"{i},{100.0 * (1.0 - v / top):.1f}" for i, v in enumerate(peaks))
    width = max(len(peaks) - 1, 1)
    return (
        f'<svg viewBox="0 0 {width} 100" preserveAspectRatio="none"><polyline points="{points}" '
        'fill="none" stroke="#36c" vector-effect="non-scaling-stroke"/></svg>'
        f"<p>0 to {top:.4g}; {len(values)} frames"
    )
