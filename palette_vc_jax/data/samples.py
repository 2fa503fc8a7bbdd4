"""What a step sees of a clip: a window of frames, and the palette of a frame of the same clip.

Which ones is a pure function of the seed and of the sample's number, counted over the whole run
and over all processes: nothing else has to be saved to go on where a run stopped.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from palette_vc_jax.data.crops import CropConfig, draw_crop, read_crop, references, region_rng
from palette_vc_jax.data.regions import palettes, split
from palette_vc_jax.data.sources import ClipSource
from palette_vc_jax.palette.image import from_image

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class SampleConfig:
    """How windows are drawn from crops."""

    window: int  # frames
    strides: tuple[int, ...] = (1,)  # frames between those of a window, of which one is drawn
    reversed: bool = False  # half of the windows run backward in time
    noisy: bool = False  # samples of pixels bring seeds for noise on their gray frames
    region_rate: float = 0.0  # share of windows with regions, of crops that are split
    seed: int = 0


class Window(NamedTuple):
    """Which frames of a crop are seen."""

    frames: np.ndarray  # [T], counted from the crop's first
    reference: int  # among `crops.references`


class Reader(Protocol):
    """Crops by number, from clips or from the cache."""

    def __len__(self) -> int: ...

    def name(self, crop: int) -> str:
        """Say for messages what a crop is of."""

    def length(self, crop: int) -> int:
        """Count a crop's frames."""

    def sample_bytes(self, window: int) -> int:
        """Return the bytes that `read` takes of memory for a window of so many frames."""

    def read(self, crop: int, window: Window) -> Batch:
        """Read what a window needs."""


@dataclass(frozen=True)
class JoinedReader:
    """The crops of several readers one after the other.

    `shares` are the parts of a run's samples that are drawn from each.
    """

    readers: tuple[Reader, ...]
    shares: tuple[float, ...]

    def __len__(self) -> int:
        return sum(map(len, self.readers))

    def name(self, crop: int) -> str:
        reader, own = self._own(crop)
        return reader.name(own)

    def length(self, crop: int) -> int:
        reader, own = self._own(crop)
        return reader.length(own)

    def sample_bytes(self, window: int) -> int:
        return max(reader.sample_bytes(window) for reader in self.readers)

    def read(self, crop: int, window: Window) -> Batch:
        reader, own = self._own(crop)
        return reader.read(own, window)

    def _own(self, crop: int) -> tuple[Reader, int]:
        for reader in self.readers:
            if crop < len(reader):
                return reader, crop
            crop -= len(reader)
        raise IndexError(f"crop {crop} of none.")


@dataclass(frozen=True)
class ClipReader:
    """Crops read from their clips, as pixels.

    `read` gives `frames` uint8 `[T, H, W, 3]`, `reference` uint8 `[H, W, 3]`, `palette` `[15]` in
    [-1, 1] and `hue_shifted`; of crops that are split, `regions` uint8 `[T, h, w]` and
    `region_palettes` `[REGIONS, 15]` too.
    """

    source: ClipSource
    config: CropConfig

    def __len__(self) -> int:
        return len(self.source) * self.config.crops

    def name(self, crop: int) -> str:
        return f"clip {self.source.name(draw_crop(self.source, crop, self.config).clip)}"

    def length(self, crop: int) -> int:
        return draw_crop(self.source, crop, self.config).length

    def sample_bytes(self, window: int) -> int:
        height, width = self.config.size
        return (window + 1) * height * width * 3  # the reference too

    def read(self, crop: int, window: Window) -> Batch:
        drawn, cell = draw_crop(self.source, crop, self.config), self.config.region_cell
        frame = references(drawn.length, self.config)[window.reference]
        seen = [*window.frames, frame]
        pixels = read_crop(self.source, drawn, [*seen, 0] if cell else seen, self.config)
        seen_pixels, first = pixels[: len(seen)], pixels[-1]  # the first frame only to split
        palette = from_image(seen_pixels[-1], source="training").vector()
        sample = {
            "frames": seen_pixels[:-1],
            "reference": seen_pixels[-1],
            "palette": palette.astype(np.float32),
            "hue_shifted": np.array(drawn.hue_shifted),
        }
        if cell:
            regions = split(seen_pixels, first, cell, region_rng(self.config, drawn))
            sample["regions"] = regions[:-1]
            sample["region_palettes"] = palettes(seen_pixels[-1], palette, regions[-1], cell)
        return sample


def draw_window(
    length: int, references: int, config: SampleConfig, rng: np.random.Generator
) -> Window:
    """Draw a window of a crop with `length` frames; strides too long for it fall back to 1.

    A crop of one frame is a still: the window repeats it.

    Raises ValueError if another crop is shorter than a window.
    """
    if length == 1:
        return Window(np.zeros(config.window, int), 0)
    if length < config.window:
        raise ValueError(
            f"{length} frames where a window has {config.window}; lower data.window, or take "
            "short clips out."
        )
    stride = int(rng.choice(config.strides))
    stride = stride if (config.window - 1) * stride < length else 1
    span = (config.window - 1) * stride + 1
    frames = int(rng.integers(length - span + 1)) + stride * np.arange(config.window)
    if config.reversed and rng.random() < 0.5:
        frames = frames[::-1]
    return Window(frames, int(rng.integers(references)))


def read_sample(reader: Reader, crop: int, number: int, config: SampleConfig, every: int) -> Batch:
    """Read sample `number` of the run, which the shuffled order has given to `crop`.

    Where samples are noisy, `noise_seed` uint32 `[T, 2]` is added. Of crops that are split, every
    sample has `regions` uint8 `[T, h, w]` and as `palette` `[REGIONS, 15]`, one of each; a sample
    without regions is of region 0 throughout.
    """
    rng = np.random.default_rng((config.seed, number))
    length = reader.length(crop)
    try:
        window = draw_window(length, -(-length // every), config, rng)
    except ValueError as error:
        raise ValueError(f"{reader.name(crop)}: {error}") from None
    sample = reader.read(crop, window)
    if "regions" in sample:
        own = sample.pop("region_palettes")
        if rng.random() < config.region_rate:
            sample["palette"] = own
        else:
            sample["palette"] = np.broadcast_to(sample["palette"], own.shape)
            sample["regions"] = np.zeros_like(sample["regions"])
    if config.noisy:
        sample["noise_seed"] = rng.integers(2**32, size=(config.window, 2), dtype=np.uint32)
    return sample
