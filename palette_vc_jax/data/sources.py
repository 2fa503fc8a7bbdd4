"""Where clips come from: folders of frames, video files, or a prepared TFDS `davis`.

A source is a sequence of clips; the frames of a clip can be read in any order.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from palette_vc_jax.files import check_regular
from palette_vc_jax.video import film as films
from palette_vc_jax.video.rgb import VIDEOS, to_rgb

PICTURES = {".jpg", ".jpeg", ".png"}
TFDS_FOLDER = "davis/full_resolution"  # the paper's


class ClipSource(Protocol):
    """Clips by number; what is used of one is its name, its length and its frames."""

    def __len__(self) -> int: ...

    def name(self, clip: int) -> str:
        """Name a clip; names are unique."""

    def length(self, clip: int) -> int:
        """Count a clip's frames."""

    def read(self, clip: int, frames: Sequence[int]) -> list[np.ndarray]:
        """Read frames as uint8 sRGB `[H, W, 3]`, in the order asked for.

        Raises ValueError in one line, naming the file, for what is damaged or cut short.
        """


@dataclass(frozen=True)
class Subset:
    """Some clips of another source."""

    source: ClipSource
    clips: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, clip: int) -> str:
        return self.source.name(self.clips[clip])

    def length(self, clip: int) -> int:
        return self.source.length(self.clips[clip])

    def read(self, clip: int, frames: Sequence[int]) -> list[np.ndarray]:
        return self.source.read(self.clips[clip], frames)


@dataclass(frozen=True)
class FrameFolders:
    """A folder of clips, each a folder of pictures in name order (DAVIS' layout)."""

    folders: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.folders)

    def name(self, clip: int) -> str:
        return self.folders[clip].name

    def length(self, clip: int) -> int:
        return len(_pictures(self.folders[clip]))

    def read(self, clip: int, frames: Sequence[int]) -> list[np.ndarray]:
        paths = _pictures(self.folders[clip])
        return [_read_picture(paths[frame]) for frame in frames]


@dataclass(frozen=True)
class VideoFiles:
    """A folder of video files, each a clip."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def name(self, clip: int) -> str:
        return self.files[clip].name

    def length(self, clip: int) -> int:
        return len(_index(self.files[clip]))

    def read(self, clip: int, frames: Sequence[int]) -> list[np.ndarray]:
        """Decode forward from the keyframe before the first of `frames`."""
        path = self.files[clip]
        times = _index(path)
        wanted = {times[frame] for frame in frames}
        found: dict[int, np.ndarray] = {}
        film = films.open_film(path)
        with films.open_video(path) as (container, stream):
            container.seek(min(wanted), stream=stream)
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    found[frame.pts] = to_rgb(frame, film)
                    if len(found) == len(wanted):
                        break
        if len(found) < len(wanted):
            raise ValueError(
                f"{path}: {len(wanted) - len(found)} of the frames asked for cannot be decoded; "
                "the film ends early or is damaged: replace it or take it out."
            )
        return [found[times[frame]] for frame in frames]


class TfdsDavis:
    """DAVIS as TFDS prepared it, read without TensorFlow.

    A record holds a whole clip, so a clip is decoded whole for any of its frames.
    """

    def __init__(self, root: Path, split: str):
        import tensorflow_datasets as tfds  # seconds to import, and not needed elsewhere

        folders = sorted((root / TFDS_FOLDER).glob("*/dataset_info.json"))
        if not folders:
            raise ValueError(
                f"{root}: no prepared {TFDS_FOLDER}; run `tfds build {TFDS_FOLDER} --file_format="
                f"array_record --data_dir={root}` once, where TensorFlow is installed."
            )
        self.split = split
        self.records = tfds.builder_from_directory(folders[-1].parent).as_data_source(split)
        self._last: tuple[int, Any] = (-1, None)  # clip and its frames: windows share clips

    def __len__(self) -> int:
        return len(self.records)

    def name(self, clip: int) -> str:
        return f"{self.split}-{clip}"

    def length(self, clip: int) -> int:
        return len(self._frames(clip))

    def read(self, clip: int, frames: Sequence[int]) -> list[np.ndarray]:
        pictures = self._frames(clip)
        return [np.asarray(pictures[frame]) for frame in frames]

    def _frames(self, clip: int) -> Any:
        last, frames = self._last
        if last != clip:
            frames = self.records[clip]["video"]["frames"]
            self._last = clip, frames
        return frames


def open_clips(kind: str, root: str | Path, split: str = "") -> ClipSource:
    """Open a source of `kind` `folders`, `videos` or `tfds` under `root`.

    Raises ValueError if there is no clip, or for another kind.
    """
    root = Path(root)
    if kind == "folders":
        return FrameFolders(list_clips(root))
    if kind == "videos":
        found = root.rglob("*") if root.is_dir() else []
        files = tuple(sorted(path for path in found if path.suffix.lower() in VIDEOS))
        if not files:
            raise ValueError(f"{root}: no video files found; give a folder that holds some.")
        return VideoFiles(files)
    if kind == "tfds":
        return TfdsDavis(root, split or "train+validation")
    raise ValueError(f"data.source={kind!r}; use 'folders', 'videos' or 'tfds'.")


def list_clips(root: str | Path) -> tuple[Path, ...]:
    """List the folders of frames under `root` in name order.

    Raises ValueError if the folder is missing or holds no clip.
    """
    root = Path(root)
    clips = sorted(path for path in root.glob("*") if path.is_dir()) if root.is_dir() else []
    clips = tuple(clip for clip in clips if frame_paths(clip))
    if not clips:
        raise ValueError(
            f"{root}: no clips found; give a folder whose sub-folders hold JPEG or PNG frames."
        )
    return clips


def frame_paths(clip: Path) -> list[Path]:
    """List a clip's frames in name order."""
    return sorted(path for path in clip.iterdir() if path.suffix.lower() in PICTURES)


def hold_out(source: ClipSource, every: int) -> tuple[ClipSource, ClipSource]:
    """Split clips into training and validation: each `every`-th is held out.

    `every` 0 holds nothing out. Raises ValueError for 1, which would leave nothing to train on.
    """
    if every == 1:
        raise ValueError("data.hold_out_every=1 leaves no clip to train on; give 0, or 2 or more.")
    clips = range(len(source))
    held = tuple(clips[every - 1 :: every]) if every else ()
    kept = tuple(clip for clip in clips if clip not in held)
    return Subset(source, kept), Subset(source, held)


@functools.lru_cache(maxsize=4096)
def _pictures(folder: Path) -> tuple[Path, ...]:
    return tuple(frame_paths(folder))


def _read_picture(path: Path) -> np.ndarray:
    check_regular(path)
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(
            f"{path}: cannot be read as a picture ({error}); replace it or take its clip out."
        ) from error


@functools.lru_cache(maxsize=4096)
def _index(path: Path) -> tuple[int, ...]:
    """List the times of a film's frames, in order of presentation, without decoding it."""
    with films.open_video(path) as (container, stream):
        times = [
            packet.pts
            for packet in container.demux(stream)
            if packet.pts is not None and not packet.is_discard
        ]
    if not times:
        raise ValueError(f"{path}: its frames have no times; convert it to .mp4 or .mkv first.")
    return tuple(sorted(set(times)))
