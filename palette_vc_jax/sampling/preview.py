"""Color a few frames of some shots under several palettes, and show them as a contact sheet."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from palette_vc_jax.models.networks import Networks
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.frames import color_frames
from palette_vc_jax.sampling.plan import Plan
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video.film import upright_size
from palette_vc_jax.video.read import Frame, read_frames
from palette_vc_jax.video.resize import small_gray
from palette_vc_jax.video.shrink import limited_size

WIDTH = 320  # maximum width of a frame in pixels
GAP = 4  # pixels between frames
LABEL = 14  # height of a line of text in pixels
SWATCH = 12  # height of a palette in pixels


class Column(NamedTuple):
    """What the frames of a column are colored with."""

    label: str
    palette: Palette | None
    seed: int


class Row(NamedTuple):
    """One shot: its label, a gray frame `[H, W]` in [0, 1], and the frame in color."""

    label: str
    gray: np.ndarray
    colored: list[np.ndarray]  # sRGB `[H, W, 3]` in [0, 1], one for each column


def preview(
    plan: Plan,
    networks: Networks,
    shots: Sequence[int],
    columns: Sequence[Column],
    progress: Callable[[int, int], Any] | None = None,
) -> Iterator[Row]:
    """Color the middle window of shots; yield a row for each; read the film's luma once.

    A window is colored alone. In the film, its neighbors also have a share in its frames.

    Args:
        plan: from `plan_film`.
        networks: the model on the devices.
        shots: numbers of the shots, counted from 0, ascending.
        columns: palettes and seeds.
        progress: called with (done, total) windows.
    """
    size = limited_size(*upright_size(plan.film), WIDTH)
    spans = [middle(plan.shots[number], plan.settings.sampler.window) for number in shots]
    done, total = 0, len(spans) * len(columns)
    for number, grays in zip(shots, _grays(plan, spans, size), strict=True):
        colored = []
        for column in columns:
            frames = color_frames(
                grays,
                networks,
                column.palette,
                plan.settings,
                seed=column.seed,
                reference=plan.reference,
                matrix=plan.film.matrix,
            )
            colored.append(frames[len(frames) // 2])
            done += 1
            if progress is not None:
                progress(done, total)
        seconds = float(plan.shots[number][0] / plan.film.rate)
        label = f"shot {number + 1}, from {int(seconds) // 60}:{seconds % 60:04.1f}"
        yield Row(label, grays[len(grays) // 2], colored)


def middle(shot: Shot, frames: int) -> Shot:
    """Return the `frames` frames in the middle of a shot, or the shot if it is shorter."""
    start, stop = shot
    first = start + max(0, stop - start - frames) // 2
    return first, min(stop, first + frames)


def _grays(plan: Plan, spans: Sequence[Shot], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the frames `[T, H, W]` of each span, upright."""
    frames = read_frames(plan.film)
    for start, stop in spans:
        shown = (frame for frame in _until(frames, stop) if frame.index >= start)
        yield np.stack([small_gray(frame, plan.film, size) for frame in shown])


def _until(frames: Iterator[Frame], stop: int) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        if frame.index + 1 == stop:
            return


def contact_sheet(columns: Sequence[Column], rows: Sequence[Row]) -> Image.Image:
    """Draw a row for each shot: its gray frame, then a frame for each column.

    Args:
        columns: as for `preview`; their palettes are drawn above them.
        rows: from `preview`.
    """
    height, width = rows[0].gray.shape
    head = 2 * GAP + LABEL + SWATCH
    step = width + GAP, height + LABEL + GAP
    sheet = Image.new(
        "RGB", (GAP + step[0] * (1 + len(columns)), head + step[1] * len(rows)), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LABEL - 3)
    for number, column in enumerate(columns, 1):
        left = GAP + number * step[0]
        draw.text((left, GAP), _fitting(column.label, draw, font, width), "black", font)
        colors = [] if column.palette is None else column.palette.hex()
        for place, code in enumerate(colors):
            edges = [left + round(part * width / len(colors)) for part in (place, place + 1)]
            draw.rectangle((edges[0], GAP + LABEL, edges[1] - 1, GAP + LABEL + SWATCH), code)
    for number, row in enumerate(rows):
        top = head + number * step[1]
        draw.text((GAP, top), row.label, "black", font)
        gray = row.gray[..., None].repeat(3, axis=-1)
        for place, frame in enumerate([gray, *row.colored]):
            pixels = np.rint(255.0 * np.clip(frame, 0.0, 1.0)).astype(np.uint8)
            sheet.paste(Image.fromarray(pixels), (GAP + place * step[0], top + LABEL))
    return sheet


def _fitting(text: str, draw: ImageDraw.ImageDraw, font: Any, width: int) -> str:
    """Shorten a text to a width in pixels."""
    while len(text) > 4 and draw.textlength(text, font) > width:
        text = text[:-4] + "..."
    return text
