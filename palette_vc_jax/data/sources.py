"""Where clips come from: folders of frames, video files, photos, or a prepared TFDS `davis`.

A source is a sequence of clips; the frames of a clip can be read in any order.
"""

import functools
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from palette_vc_jax import files
from palette_vc_jax.data.recent import RecentClips
from palette_vc_jax.images import parse_image, read_image
from palette_vc_jax.video import film as films
from palette_vc_jax.video.image_files import find_images
from palette_vc_jax.video.rgb import VIDEOS, to_rgb

TFDS_FOLDER = "davis/full_resolution"  # the paper's
TFDS_KEPT = 2**28  # bytes of encoded pictures; 70 frames of 1080p take about 30 MB

Scan = Iterator[tuple[int, np.ndarray]]  # number of a frame and its pixels [H, W, 3] uint8 sRGB


class ClipSource(Protocol):
    """Clips by number; what is used of one is its name, its files, its length and its frames."""

    def __len__(self) -> int: ...

    def name(self, clip: int) -> str:
        """Name a clip; names are unique."""

    def fingerprint(self, clip: int) -> str:
        """Return a hash of the paths, sizes, first and last bytes of a clip's files."""

    def length(self, clip: int) -> int:
        """Count a clip's frames without decoding them."""

    def scan(self, clip: int, frames: Iterable[int]) -> Scan:
        """Yield each of `frames` once, in the order that is cheapest to read, holding one.

        Raises ValueError in one line, naming the file, for what is damaged or cut short.
        """

    def read(self, clip: int, frames: Sequence[int]) -> list[np.ndarray]:
        """Read frames as uint8 sRGB `[H, W, 3]`, in the given order."""


class Readable:
    """`ClipSource.read` of the sources that have `scan`."""

    def read(self: ClipSource, clip: int, frames: Sequence[int]) -> list[np.ndarray]:
        """Read frames as uint8 sRGB `[H, W, 3]`, in the given order."""
        found = dict(self.scan(clip, frames))
        return [found[frame] for frame in frames]


@dataclass(frozen=True)
class Subset(Readable):
    """Some clips of another source."""

    source: ClipSource
    clips: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, clip: int) -> str:
        return self.source.name(self.clips[clip])

    def fingerprint(self, clip: int) -> str:
        return self.source.fingerprint(self.clips[clip])

    def length(self, clip: int) -> int:
        return self.source.length(self.clips[clip])

    def scan(self, clip: int, frames: Iterable[int]) -> Scan:
        return self.source.scan(self.clips[clip], frames)


@dataclass(frozen=True)
class FrameFolders(Readable):
    """A folder of clips, each a folder of pictures, numbers in their names in numeric order."""

    folders: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.folders)

    def name(self, clip: int) -> str:
        return self.folders[clip].name

    def fingerprint(self, clip: int) -> str:
        folder = self.folders[clip]
        return files.fingerprint(_images(folder), folder.parent)

    def length(self, clip: int) -> int:
        return len(_images(self.folders[clip]))

    def scan(self, clip: int, frames: Iterable[int]) -> Scan:
        paths = _images(self.folders[clip])
        for frame in sorted(set(frames)):
            yield frame, read_image(paths[frame])


@dataclass(frozen=True)
class Photos(Readable):
    """A folder of pictures, each a clip of one frame."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def name(self, clip: int) -> str:
        return self.files[clip].name

    def fingerprint(self, clip: int) -> str:
        return files.fingerprint(self.files[clip : clip + 1], self.files[clip].parent)

    def length(self, clip: int) -> int:
        return 1

    def scan(self, clip: int, frames: Iterable[int]) -> Scan:
        yield from ((frame, read_image(self.files[clip])) for frame in sorted(set(frames)))


@dataclass(frozen=True)
class VideoFiles(Readable):
    """A folder of video files, each a clip."""

    root: Path
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def name(self, clip: int) -> str:
        return str(self.files[clip].relative_to(self.root))

    def fingerprint(self, clip: int) -> str:
        return files.fingerprint([self.files[clip]], self.root)

    def length(self, clip: int) -> int:
        return len(_index(self.files[clip]))

    def scan(self, clip: int, frames: Iterable[int]) -> Scan:
        """Decode forward from the keyframe before the first of `frames`, as `ClipSource.scan`."""
        path = self.files[clip]
        times = _index(path)
        wanted = {times[frame]: frame for frame in frames}
        film = films.open_film(path)
        with films.open_video(path) as (container, stream):
            container.seek(min(wanted), stream=stream)
            for decoded in container.decode(stream):
                frame = wanted.pop(decoded.pts, None)
                if frame is not None:
                    picture = films.orient(to_rgb(decoded, film), film.orientation)
                    yield frame, np.ascontiguousarray(picture)
                if not wanted:
                    return
        raise ValueError(
            f"{path}: {len(wanted)} of the requested frames cannot be decoded; "
            "the film ends early or is damaged: replace it or take it out."
        )


class TfdsDavis(Readable):
    """DAVIS as TFDS prepared it, read without TensorFlow.

    A record holds a whole clip, as encoded pictures. The latest records are kept, and a frame is
    decoded when it is requested; segmentations never are.
    """

    def __init__(self, root: Path, split: str):
        import tensorflow_datasets as tfds  # seconds to import, and not needed elsewhere

        folders = sorted((root / TFDS_FOLDER).glob("*/dataset_info.json"))
        if not folders:
            raise ValueError(
                f"{root}: no prepared {TFDS_FOLDER}; run `tfds build {TFDS_FOLDER} --file_format="
                f"array_record --data_dir={root}` once, where TensorFlow is installed."
            )

        class Encoded(tfds.decode.SkipDecoding):
            """Leave a sequence's pictures encoded; TFDS' own decoder does so for single ones."""

            def decode_batch_example_np(self, examples: Sequence[bytes]) -> Sequence[bytes]:
                return examples

        self.root, self.split, self.folder = root, split, folders[-1].parent
        encoded = {"video": {"frames": Encoded(), "segmentations": Encoded()}}
        builder = tfds.builder_from_directory(self.folder)
        self.records = builder.as_data_source(split, decoders=encoded)
        self._clip = RecentClips(self._load, TFDS_KEPT)
        self._lengths: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.records)

    def name(self, clip: int) -> str:
        return f"{self.split}-{clip}"

    def fingerprint(self, clip: int) -> str:
        return self._files  # a record may lie in any of them

    def length(self, clip: int) -> int:
        if clip not in self._lengths:
            self._lengths[clip] = len(self._clip(clip))
        return self._lengths[clip]

    def scan(self, clip: int, frames: Iterable[int]) -> Scan:
        pictures = self._clip(clip)
        for frame in sorted(set(frames)):
            name = f"{self.folder}: frame {frame} of {self.name(clip)}"
            yield frame, parse_image(io.BytesIO(pictures[frame]), name)

    @functools.cached_property
    def _files(self) -> str:
        shown = (path for path in self.folder.iterdir() if not path.name.startswith("."))
        return files.fingerprint(sorted(shown), self.folder)

    def _load(self, clip: int) -> list[bytes]:
        return list(self.records[clip]["video"]["frames"])

    def __reduce__(self) -> tuple:
        return TfdsDavis, (self.root, self.split)  # worker processes open the files themselves


def open_clips(kind: str, root: str | Path, split: str = "train+validation") -> ClipSource:
    """Open a source of `kind` `folders`, `videos`, `photos` or `tfds` under `root`.

    Raises ValueError if there is no clip, or for another kind.
    """
    root = Path(root)
    if kind == "folders":
        return FrameFolders(list_clips(root))
    if kind == "videos":
        return VideoFiles(root, list_videos(root))
    if kind == "photos":
        return Photos(list_photos(root))
    if kind == "tfds":
        return TfdsDavis(root, split)
    raise ValueError(f"data.source={kind!r}; use 'folders', 'videos', 'photos' or 'tfds'.")


def list_clips(root: str | Path) -> tuple[Path, ...]:
    """List the folders of frames under `root` in name order; hidden ones are left out.

    Raises ValueError if the folder is missing or holds no clip.
    """
    root = Path(root)
    found = sorted(root.iterdir()) if root.is_dir() else []
    folders = [path for path in found if path.is_dir() and not path.name.startswith(".")]
    clips = tuple(folder for folder in folders if find_images(folder))
    if not clips:
        raise ValueError(
            f"{root}: no clips found; give a folder whose sub-folders hold JPEG or PNG frames."
        )
    return clips


def list_photos(root: Path) -> tuple[Path, ...]:
    """List the pictures in `root`, numbers in their names in numeric order.

    Raises ValueError if the folder is missing or holds none.
    """
    found = find_images(root) if root.is_dir() else ()
    if not found:
        raise ValueError(f"{root}: no photos found; give a folder that holds JPEG or PNG files.")
    return found


def list_videos(root: Path) -> tuple[Path, ...]:
    """List the video files anywhere under `root` in path order; hidden ones are left out.

    Raises ValueError if there is none.
    """
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in VIDEOS)
    shown = (path for path in found if not _is_hidden(path.relative_to(root)) and not path.is_dir())
    if not (files := tuple(shown)):
        raise ValueError(f"{root}: no video files found; give a folder that holds some.")
    return files


def hold_out(source: ClipSource, every: int) -> tuple[ClipSource, ClipSource]:
    """Split clips into training and validation: each `every`-th is held out.

    `every` 0 holds nothing out. Raises ValueError for 1, which would leave nothing to train on.
    """
    if every == 1:
        raise ValueError("data.hold_out_every=1 leaves no clip to train on; give 0, or 2 or more.")
    clips = range(len(source))
    held = tuple(clips[every - 1 :: every]) if every else ()
    kept = tuple(clip for clip in clips if not every or (clip + 1) % every)
    return Subset(source, kept), Subset(source, held)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@functools.lru_cache(maxsize=4096)
def _images(folder: Path) -> tuple[Path, ...]:
    return find_images(folder)


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
