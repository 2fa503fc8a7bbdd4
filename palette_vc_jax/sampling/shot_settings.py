"""How each shot of a film is colored."""

from collections.abc import Sequence
from dataclasses import dataclass

from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.reference import GRAY, Reference
from palette_vc_jax.sampling.windows import Shot, from_zero, group_shots


@dataclass(frozen=True)
class ShotSettings:
    """What a shot is colored with.

    Args:
        palette: colors that guide the result, or None for the null palette.
        reference: the image that the image tower sees.
        seed: seed of the noise, 0 to 2^32 - 1.
        strength: factor of the chroma, 0 to 2; the shot is not sampled at 0 and stays gray.

    Raises:
        ValueError: if the seed or the strength is out of range.
    """

    palette: Palette | None = None
    reference: Reference = GRAY
    seed: int = 0
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed {self.seed}; give a whole number from 0 to 2^32 - 1.")
        if not 0.0 <= self.strength <= 2.0:
            raise ValueError(f"strength {self.strength}; give a number from 0 (gray) to 2.")

    @property
    def is_gray(self) -> bool:
        """Return whether the shot stays gray."""
        return self.strength == 0.0


def common_palette(given: Sequence[ShotSettings]) -> Palette | None:
    """Return the palette of all shots, or None if they have several."""
    palettes = {id(one.palette): one.palette for one in given}
    return given[0].palette if len(palettes) == 1 else None


def runs_of(
    shots: Sequence[Shot], given: Sequence[ShotSettings], frames: int
) -> list[tuple[list[Shot], list[ShotSettings]]]:
    """Split a film's shots into runs as `group_shots` does; no run mixes gray and colored shots.

    Args:
        shots: half-open ranges that cover the film from frame 0.
        given: the settings of each shot.
        frames: maximum number of frames of a run of several shots.
    """
    runs = []
    first = 0
    for number in range(1, len(shots) + 1):
        if number < len(shots) and given[number].is_gray == given[first].is_gray:
            continue
        part, start = shots[first:number], shots[first][0]
        for group in group_shots(from_zero(part), frames):
            last = first + len(group)
            run = [(start + begin, start + end) for begin, end in group]
            runs.append((run, list(given[first:last])))
            first = last
    return runs
