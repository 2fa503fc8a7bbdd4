"""Frame folders, and crops of them held in memory.

A source is a folder of clips, each a folder of pictures in name order (DAVIS' layout). Frames of
the demo's size are so small that all crops of all clips fit in memory as bytes.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from palette_vc_jax.data.vary import vary

PICTURES = {".jpg", ".jpeg", ".png"}


class Crops(NamedTuple):
    """Crops of clips; all have `frames` frames, the last one repeated where a clip is shorter."""

    names: list[str]  # of the clip each crop is from
    pixels: np.ndarray  # [N, T, H, W, 3] uint8 sRGB
    lengths: np.ndarray  # [N] frames that are real
    turned: np.ndarray  # [N] bool, whether its hues are not those of the clip


def list_clips(root: str | Path) -> list[Path]:
    """List the clips under `root` in name order.

    Raises ValueError if the folder is missing or holds no clip.
    """
    root = Path(root)
    clips = sorted(path for path in root.glob("*") if path.is_dir()) if root.is_dir() else []
    clips = [clip for clip in clips if frame_paths(clip)]
    if not clips:
        raise ValueError(
            f"{root}: no clips found; give a folder whose sub-folders hold JPEG or PNG frames."
        )
    return clips


def frame_paths(clip: Path) -> list[Path]:
    """List a clip's frames in name order."""
    return sorted(path for path in clip.iterdir() if path.suffix.lower() in PICTURES)


def hold_out(clips: list[Path], every: int) -> tuple[list[Path], list[Path]]:
    """Split clips into training and validation: each `every`-th of the sorted names is held out.

    `every` 0 holds nothing out.
    """
    held = clips[every - 1 :: every] if every else []
    return [clip for clip in clips if clip not in held], held


def load_crops(
    clips: list[Path],
    frames: int,
    size: tuple[int, int],
    short_sides: tuple[int, int],
    crops_per_clip: int,
    seed: int,
    turned: float | None = None,
) -> Crops:
    """Cut random crops out of every clip, the same rectangle from all its frames.

    Args:
        clips: folders of frames.
        frames: frames of a crop, from a random place in the clip.
        size: (height, width) of a crop in pixels.
        short_sides: (least, most) pixels of the whole frame's short side after it is scaled; a
            crop of `size` is cut from the scaled frame. A frame too narrow for the crop is
            scaled until it covers it.
        crops_per_clip: rectangles a clip; every other one is mirrored left to right.
        seed: of every choice.
        turned: share of the crops whose hues are turned, the rest being varied in tone and
            saturation alone; None varies nothing.
    """
    result = []
    rng = np.random.default_rng(seed)
    for clip in tqdm(clips, desc="reading clips", unit="clip", disable=None):
        pictures = [Image.open(path).convert("RGB") for path in frame_paths(clip)]
        length = min(len(pictures), frames)
        for index in range(crops_per_clip):
            box = _random_box(pictures[0].size, size, short_sides, rng)
            start = rng.integers(len(pictures) - length + 1)
            crop = np.stack(
                [
                    np.asarray(p.resize(size[::-1], Image.Resampling.LANCZOS, box=box))
                    for p in pictures[start : start + length]
                ]
            )
            crop = crop[:, :, ::-1] if index % 2 else crop
            turn = turned is not None and rng.random() < turned
            crop = crop if turned is None else vary(crop, turn, rng)
            padding = [(0, frames - length)] + [(0, 0)] * 3
            result.append((clip.name, np.pad(crop, padding, mode="edge"), length, turn))
    names, pixels, lengths, turns = zip(*result, strict=True)
    return Crops(list(names), np.stack(pixels), np.array(lengths), np.array(turns))


def _random_box(
    picture: tuple[int, int],
    size: tuple[int, int],
    short_sides: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[float, float, float, float]:
    """Choose a rectangle (left, top, right, bottom) of a picture (width, height)."""
    width, height = picture
    scale = rng.uniform(*short_sides) / min(width, height)
    scale = max(scale, size[0] / height, size[1] / width)
    box_height, box_width = size[0] / scale, size[1] / scale
    top = rng.uniform(0.0, height - box_height)
    left = rng.uniform(0.0, width - box_width)
    return left, top, min(left + box_width, width), min(top + box_height, height)


def grey_of(rgb: np.ndarray) -> np.ndarray:
    """Turn RGB into Y' of BT.601, replicated to three channels, in the input's scale."""
    luma = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat(luma[..., None], 3, axis=-1).astype(np.float32)
