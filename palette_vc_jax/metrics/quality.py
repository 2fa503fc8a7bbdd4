"""Judge a colored film without the truth: `sample.py --report`, one HTML file.

How colorful it is, how its colors wander within shots, whether its luma is the source's, how near
each shot comes to the palette; and the frames to look at first.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from palette_vc_jax import atomic
from palette_vc_jax.metrics.adherence import frame_palette
from palette_vc_jax.metrics.chunk import Chunk
from palette_vc_jax.metrics.color import (
    channel_histograms,
    colorfulness,
    jensen_shannon,
    palette_distance,
)
from palette_vc_jax.metrics.structure import psnr
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.video import color
from palette_vc_jax.video.film import Film, open_film
from palette_vc_jax.video.read import read_frames
from palette_vc_jax.video.rgb import read_rgb

Shot = tuple[int, int]  # half-open range of frames
WORST = 3  # frames of a kind that are shown
THUMBNAIL = 240  # pixels of width
POINTS = 600  # of a curve at most


class Quality(NamedTuple):
    """What was measured; a frame's values are nan where it has none."""

    colorfulness: np.ndarray  # [T]
    change: np.ndarray  # [T], of a*b* histograms from the frame before in the shot, 0 to ln 2
    luma: np.ndarray  # [T], PSNR of Y' to the source's in dB; infinite where equal
    palettes: dict[Shot, float]  # distance of a shot's middle frame to the palette, a*b* units


def measure(source: Film, output: Film, shots: Sequence[Shot], palette: Palette | None) -> Quality:
    """Measure a colored film frame by frame; one frame of each is held."""
    starts, middles = {a for a, _ in shots}, {(a + b) // 2: (a, b) for a, b in shots}
    colorful, change, palettes, before = [], [], {}, None
    for index, frame in enumerate(read_rgb(output)):
        chunk = Chunk(frame[None])
        colorful.append(colorfulness(chunk.rgb)[0])
        codes = np.rint(chunk.chroma + 128.0).clip(0, 255).astype(np.int64)
        histograms = channel_histograms(codes)[0]
        same_shot = before is not None and index not in starts
        change.append(jensen_shannon(before, histograms).mean() if same_shot else np.nan)
        before = histograms
        if palette is not None and index in middles:
            found = frame_palette(frame, "film")
            palettes[middles[index]] = palette_distance(palette.colors, found.colors)
    pairs = zip(read_frames(source), read_frames(output), strict=True)
    luma = [_luma_psnr(a.luma, source, b.luma, output) for a, b in pairs]
    return Quality(np.array(colorful), np.array(change), np.array(luma), palettes)


def worst_frames(quality: Quality) -> dict[int, str]:
    """Name the frames to look at first, and why."""
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
) -> None:
    """Measure the film `output`, colored from `source`, and write the report."""
    film = open_film(output)
    quality = measure(source, film, shots, palette)
    worst = worst_frames(quality)
    pictures = {i: frame for i, frame in enumerate(read_rgb(film)) if i in worst}
    page = _page(output.name, quality, worst, pictures, shots, palette, film)
    atomic.write_text(path, page)


def _luma_psnr(mine: np.ndarray, source: Film, other: np.ndarray, output: Film) -> float:
    if (source.depth, source.full_range) == (output.depth, output.full_range):
        if np.array_equal(mine, other):
            return float("inf")
    greys = color.grey(mine, source), color.grey(other, output)
    return float(psnr(*(255.0 * grey[None] for grey in greys))[0])


def _page(
    name: str,
    quality: Quality,
    worst: dict[int, str],
    pictures: dict[int, np.ndarray],
    shots: Sequence[Shot],
    palette: Palette | None,
    film: Film,
) -> str:
    exact = int(np.isposinf(quality.luma).sum())
    finite = quality.luma[np.isfinite(quality.luma)]
    rows = {
        "frames, shots": f"{len(quality.colorfulness)}, {len(shots)}",
        "colorfulness (Hasler-Suesstrunk)": f"{quality.colorfulness.mean():.1f} in the mean, "
        f"{quality.colorfulness.min():.1f} to {quality.colorfulness.max():.1f}",
        "change of a*b* from frame to frame (CDC, stride 1)": _mean(quality.change, "{:.4f}"),
        "luma": f"equal to the source's in {exact} of {len(quality.luma)} frames"
        + (f", else {finite.min():.1f} dB or better" if len(finite) else ""),
        "distance to the palette, a*b* units": _mean(list(quality.palettes.values()), "{:.1f}"),
    }
    table = "".join(f"<tr><th>{html.escape(k)}<td>{html.escape(v)}" for k, v in rows.items())
    swatch = (
        "".join(f'<i style="background:{code}"></i>' for code in palette.hex()) if palette else ""
    )
    shown = "".join(
        f'<figure><img src="{_data(pictures[i])}"><figcaption>frame {i}, '
        f"{float(i / film.rate):.2f} s: {html.escape(why)}</figcaption></figure>"
        for i, why in worst.items()
    )
    shot_rows = ""
    for a, b in shots:
        cells = [
            f"{a} to {b - 1}",
            f"{quality.colorfulness[a:b].mean():.1f}",
            _mean(quality.change[a:b], "{:.4f}"),
            _mean([quality.palettes.get((a, b))], "{:.1f}"),
        ]
        shot_rows += "<tr><td>" + "<td>".join(cells)
    return f"""<!doctype html><meta charset="utf-8"><title>{html.escape(name)}</title>
<style>body{{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}}
th{{text-align:left;font-weight:normal;color:#555}}td,th{{padding:.1em 1em .1em 0}}
figure{{display:inline-block;margin:0 1em 1em 0;width:{THUMBNAIL}px;vertical-align:top}}
i{{display:inline-block;width:3em;height:2em}}svg{{width:100%;height:6em}}</style>
<h1>{html.escape(name)}</h1><p>{swatch}<table>{table}</table>
<h2>Colorfulness, frame by frame</h2>{_curve(quality.colorfulness)}
<h2>Change of color, frame by frame</h2>{_curve(quality.change)}
<h2>Frames to look at first</h2>{shown}
<h2>Shots</h2><table><tr><th>frames<th>colorfulness<th>change<th>to the palette{shot_rows}</table>
<p>None of these numbers knows whether a color is the right one.
"""


def _mean(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return form.format(np.mean(known)) if known else "-"


def _data(picture: np.ndarray) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, 4 * THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _curve(values: np.ndarray) -> str:
    """Draw values over frames, each point the largest of those it stands for."""
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
