"""The masks of regions in each frame, carried as `regions.carry_regions` does, when they are shown.

A mask is carried from the frame that it was drawn in to the frame that is shown, and no further, so
that a region can be drawn in a shot of any length.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.plan import Plan
from palette_vc_jax.sampling.regions import Region, RegionMaps, covered, parse_region, read_mask
from palette_vc_jax.sampling.tracking import carry, read_shots
from palette_vc_jax.sampling.windows import Shot
from palette_vc_jax.video.film import Film, open_film
from palette_vc_jax.video.resize import resize

KEPT = 24  # masks of a shot
BLOCK = 50  # frames that are held at the size of the flow


@dataclass
class _Carried:
    """A region in a shot: what has been carried so far."""

    region: Region
    covers: dict[int, np.ndarray] = field(default_factory=dict)  # uint8 `[h, w]` by frame
    ends: dict[int, tuple[int, np.ndarray]] = field(default_factory=dict)  # frame and mask by step


class Masks:
    """The masks of a film's regions; threads take turns.

    Args:
        plan: from `plan_film`.
        folder: of the plan file.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[str, Shot], _Carried] = OrderedDict()

    def cover(
        self, text: str, shot: Shot, frame: int, check: Callable[[], None] = lambda: None
    ) -> np.ndarray | None:
        """Return the share of each latent pixel that a mask covers, times 255, uint8 `[h, w]`.

        Args:
            text: the mask, as `parse_region` takes it.
            shot: that holds the frame.
            frame: its number.
            check: called between frames; may raise to stop.

        Returns:
            None if the region is not in this frame.

        Raises:
            ValueError: as `parse_region`.
        """
        shape = self._plan.latent_shape[:2]
        with self._lock:
            found = self._carried(text, shot)
            region = found.region
            if not isinstance(region.masks, np.ndarray):
                place = frame - region.frame
                inside = 0 <= place < len(region.masks)
                return covered(read_mask(region.masks[place]), shape) if inside else None
            if not shot[0] <= region.frame < shot[1]:
                return None
            while frame not in found.covers:
                self._carry(found, region.masks, frame, check)
            return found.covers[frame]

    def maps(
        self,
        regions: Sequence[tuple[str, Palette | None]],
        shot: Shot,
        part: Shot,
        check: Callable[[], None],
    ) -> RegionMaps | None:
        """Return the regions of a part of a shot; None if there are none.

        Args:
            regions: masks and palettes; the last is in front.
            shot: that holds the part.
            part: half-open range of frames.
            check: see `cover`.
        """
        shape = self._plan.latent_shape[:2]
        covers, palettes = [], []
        for text, palette in regions:
            own = [self.cover(text, shot, frame, check) for frame in range(*part)]
            if any(one is not None for one in own):
                empty = np.zeros(shape, np.uint8)
                covers.append(np.stack([empty if one is None else one for one in own]))
                palettes.append(palette)
        if not covers:
            return None
        return RegionMaps(tuple(palettes), {part[0]: np.stack(covers, axis=-1)}, shape)

    def _carried(self, text: str, shot: Shot) -> _Carried:
        key = text, shot
        if key not in self._found:
            self._found[key] = _Carried(parse_region(text, self._plan.film, self._folder))
            while len(self._found) > KEPT:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        return self._found[key]

    def _carry(
        self, found: _Carried, drawn: np.ndarray, frame: int, check: Callable[[], None]
    ) -> None:
        """Carry a mask at most `BLOCK` frames toward `frame`."""
        anchor = found.region.frame
        step = -1 if frame < anchor else 1
        last, begun = found.ends.get(step, (anchor, drawn))
        goal = last + step * min(BLOCK, abs(frame - last))
        frames = self._frames(min(last, goal), max(last, goal) + 1)[::step]
        begun = resize(begun, *frames.shape[1:])
        for number, mask in zip(range(last, goal + step, step), carry(frames, begun), strict=True):
            check()
            found.covers[number] = covered(mask, self._plan.latent_shape[:2])
        found.ends[step] = goal, mask

    def _frames(self, start: int, stop: int) -> np.ndarray:
        film = part_of(self._plan.film, start, stop)
        ((_, frames),) = read_shots(film, [(0, stop - start)])
        return frames


def part_of(film: Film, start: int, stop: int) -> Film:
    """Return the excerpt of a film from frame `start` to `stop`."""
    return (
        film if film.kind == "image" else open_film(film.path, film.damaged, f"{start}", f"{stop}")
    )
