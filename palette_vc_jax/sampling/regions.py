"""Regions: parts of a shot with palettes of their own.

A region is a mask of one frame that follows the picture through its shot, or a mask of each frame.
The masks become the shares of regions in each latent pixel, which the UNet reads (equation 4 of the
paper with a sum over regions). Where regions overlap, the later one is in front.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palette_vc_jax.files import beside
from palette_vc_jax.images import read_image
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.pixels import luma
from palette_vc_jax.sampling.keyframes import check_aspect
from palette_vc_jax.sampling.tracking import carry, read_shots
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video.film import Film, upright_size
from palette_vc_jax.video.image_files import find_images
from palette_vc_jax.video.position import parse_position
from palette_vc_jax.video.resize import resize

FORMS = '"x,y,w,h@POSITION=SPEC", "IMAGE@POSITION=SPEC" or "FOLDER=SPEC" (an image for each frame)'


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the picture with a palette of its own.

    Args:
        palette: its colors; None for the null palette.
        masks: `[H, W]` in [0, 1] of one frame, of any size, upright; or image files, one for each
            frame from `frame` on, which are not carried.
        frame: number of the first frame that has a mask.
        source: name in the record.
        files: images that the masks come from, which a run must not replace.
    """

    palette: Palette | None
    masks: np.ndarray | tuple[Path, ...]
    frame: int = 0
    source: str = "mask"
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class RegionMaps:
    """The regions of a film, carried through its shots.

    Args:
        palettes: of the R regions; None is the null palette.
        maps: uint8 `[T, h, w, R]` of the shots that have regions, by the shot's first frame: the
            share of a latent pixel that a region covers, times 255.
        shape: h and w.
    """

    palettes: tuple[Palette | None, ...]
    maps: dict[int, np.ndarray]
    shape: tuple[int, int]

    def shares(self, shots: Sequence[Shot]) -> np.ndarray:
        """Return the shares of a run of shots, float32 `[N, h, w, 1 + R]`, which sum to 1.

        The first region is the rest of the picture, which has the palette of the film.
        """
        first, stop = shots[0][0], shots[-1][1]
        shares = np.zeros((stop - first, *self.shape, 1 + len(self.palettes)), np.float32)
        shares[..., 0] = 1.0
        for start, end in shots:
            if start in self.maps:
                _paint(shares[start - first : end - first], self.maps[start])
        return shares

    def whole(self, shots: Sequence[Shot]) -> list[int] | None:
        """Return the region that covers each shot, numbered as in `shares`.

        Return None if a shot has several regions.
        """
        found = [_whole(self.maps[start]) if start in self.maps else 0 for start, _ in shots]
        return None if None in found else [region for region in found if region is not None]


def parse_region(text: str, film: Film, folder: Path | None = None) -> Region:
    """Return the region of the mask `text`, without a palette.

    The text is what stands before `=SPEC` in one of `FORMS`.

    A rectangle is in pixels of the upright film: left, top, width and height. An image has the
    film's aspect ratio; white is inside. Without a position, it belongs to the first frame.

    Args:
        text: see above.
        film: from `open_film`.
        folder: of a plan, see `files.beside`.

    Raises:
        ValueError: if the text has another form, the position is not valid, or the mask cannot be
            read or does not fit the film.
    """
    upright = upright_size(film)
    what, frame = split_mask(text, film, folder)
    path = beside(what, folder)
    if path.is_dir():
        files = find_images(path)
        if not files:
            raise ValueError(f"region {what}: no images in this folder; give one for each frame.")
        return Region(None, files, frame, text, files)
    numbers = what.split(",")
    if len(numbers) == 4 and all(number.strip().isdecimal() for number in numbers):
        mask = _rectangle([int(number) for number in numbers], text, upright)
        return Region(None, mask, frame, text)
    mask = read_mask(path)
    check_aspect(mask.shape, upright, f"region {text}")
    return Region(None, mask, frame, text, (path,))


def split_mask(text: str, film: Film, folder: Path | None = None) -> tuple[str, int]:
    """Return what stands before the position of the mask `text`, and the number of its frame.

    The arguments are those of `parse_region`.

    Raises:
        ValueError: if the position is not valid.
    """
    what, at, position = text.rpartition("@")
    if not at or beside(text, folder).exists():
        what, position = text, "0"
    return what, parse_position(position, film.rate)


def carry_regions(
    film: Film, shots: Sequence[Shot], shape: tuple[int, int], regions: Sequence[Region]
) -> RegionMaps:
    """Carry regions through the shots that they are in; read the film's luma once.

    Memory holds the maps of these shots, and the frames of one shot at `FLOW_SIDE`. Warn if a
    region covers nothing.

    Args:
        film: from `open_film`.
        shots: half-open ranges that cover the film.
        shape: height and width of the latents.
        regions: at least one; the last is in front.

    Raises:
        ValueError: as `check_regions`, or if an image of a mask cannot be read.
    """
    check_regions(regions, shots[-1][1])
    wanted = [shot for shot in shots if any(_is_in(region, shot) for region in regions)]
    maps = {}
    for (start, stop), frames in read_shots(film, wanted):
        own = np.zeros((stop - start, *shape, len(regions)), np.uint8)
        for number, region in enumerate(regions):
            for frame, mask in _masks(region, (start, stop), frames):
                own[frame - start, ..., number] = covered(mask, shape)
        maps[start] = own
    for number, region in enumerate(regions):
        if not any(own[..., number].any() for own in maps.values()):
            warnings.warn(
                f"region {region.source} covers nothing: its mask is black, or too small for the "
                f"latents of {shape[1]}x{shape[0]} pixels; white is inside.",
                stacklevel=2,
            )
    return RegionMaps(tuple(region.palette for region in regions), maps, shape)


def check_regions(regions: Sequence[Region], frames: int) -> None:
    """Raise ValueError unless all masks of the regions are in a film of `frames` frames."""
    for region in regions:
        if not 0 <= region.frame < _end(region) <= frames:
            raise ValueError(
                f"region {region.source}: its masks are of the frames {region.frame} to "
                f"{_end(region) - 1}, and the film has the frames 0 to {frames - 1}."
            )


def covered(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the share of latent pixels `shape` that a mask `[H, W]` covers, times 255, uint8."""
    return np.rint(255.0 * np.clip(resize(mask, *shape), 0.0, 1.0)).astype(np.uint8)


def _masks(region: Region, shot: Shot, frames: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the frames of a shot that a region is in, and its masks `[H, W]`."""
    start, stop = shot
    if not isinstance(region.masks, np.ndarray):
        for frame in range(max(start, region.frame), min(stop, _end(region))):
            yield frame, read_mask(region.masks[frame - region.frame])
    elif start <= region.frame < stop:
        anchor = region.frame - start
        mask = resize(region.masks, *frames.shape[1:])
        for number, forward in enumerate(carry(frames[anchor:], mask)):
            yield region.frame + number, forward
        for number, backward in enumerate(carry(frames[anchor::-1], mask)):
            yield region.frame - number, backward


def _is_in(region: Region, shot: Shot) -> bool:
    return region.frame < shot[1] and shot[0] < _end(region)


def _end(region: Region) -> int:
    """Return the number of the frame after the last that has a mask before masks are carried."""
    return region.frame + (1 if isinstance(region.masks, np.ndarray) else len(region.masks))


def _whole(maps: np.ndarray) -> int | None:
    """Return the number of the only region that is seen in `maps` `[T, h, w, R]`; 0 is the rest."""
    for region in reversed(range(maps.shape[-1])):  # from the front
        if (maps[..., region] == 255).all():
            return 1 + region
        if maps[..., region].any():
            return None
    return 0


def _paint(shares: np.ndarray, maps: np.ndarray) -> None:
    """Paint regions `[T, h, w, R]` over `shares` `[T, h, w, 1 + R]`, in place and in order."""
    for number in range(maps.shape[-1]):
        cover = maps[..., number, None] / np.float32(255.0)
        shares *= 1.0 - cover
        shares[..., 1 + number] += cover[..., 0]


def read_mask(path: Path) -> np.ndarray:
    """Read a mask `[H, W]` in [0, 1] from an image; white is inside.

    Raises:
        ValueError: as `read_image`.
    """
    return luma(read_image(path).astype(np.float32)) / np.float32(255.0)


def _rectangle(numbers: Sequence[int], text: str, upright: tuple[int, int]) -> np.ndarray:
    left, top, width, height = numbers
    rows, columns = upright
    if not width or not height or left + width > columns or top + height > rows:
        raise ValueError(
            f"region {text}: a rectangle outside of the film's {columns}x{rows} pixels, or without "
            "width or height; give left, top, width, height."
        )
    mask = np.zeros(upright, np.float32)
    mask[top : top + height, left : left + width] = 1.0
    return mask
