"""Some frames of a film, and what metrics look at in them, each made once.

Metrics see a film as a stream of chunks, so that memory does not grow with it. A row of the table
and the truth are two streams; what is made of the truth's chunk serves all rows.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from palette_vc_jax.metrics import color
from palette_vc_jax.metrics.warp import Flow, dis_flow
from palette_vc_jax.video.color import rgb_to_luma


class Network(NamedTuple):
    """A network as functions that are jitted by the maker.

    features: `[n, H, W, 3]` float32 sRGB in [0, 1] -> anything whose leaves begin with n.
    distance: two such -> `[n]`; for networks that compare.
    videos: `[1, T, ...]`, features of frames -> `[1, C]`; for networks that see frames together.
    """

    features: Callable
    distance: Callable | None = None
    videos: Callable | None = None


class Chunk:
    """Frames in order, and the last frame before them.

    Args:
        frames: `[n, H, W, 3]` sRGB, uint8 or float in [0, 1].
        before: the last frame of the chunk before, or None at the film's start.
        matrix: whose luma is taken, such as `bt709`; the truth's.
        flow: gives the flow from the n-th frame of `followed` to the next; DIS' if None.
        networks: by name, for the views that need them.
        room: frames that networks are given; fewer are padded, so that one shape is compiled.
    """

    def __init__(
        self,
        frames: np.ndarray,
        before: np.ndarray | None = None,
        matrix: str = "bt601",
        flow: Callable[[int], Flow] | None = None,
        networks: Mapping[str, Network] | None = None,
        room: int = 0,
    ):
        self.frames = frames
        self.before = before
        self.matrix = matrix
        self.flow = flow
        self.networks = networks or {}
        self.room = max(room, len(frames))

    def __len__(self) -> int:
        return len(self.frames)

    @functools.cached_property
    def rgb(self) -> np.ndarray:
        """Give `[n, H, W, 3]` float32 in [0, 1]."""
        return _rgb(self.frames)

    @functools.cached_property
    def codes(self) -> np.ndarray:
        """Give `[n, H, W, 3]` uint8."""
        return _codes(self.frames)

    @functools.cached_property
    def luma(self) -> np.ndarray:
        """Give Y', `[n, H, W]` float32, 0 to 255, unrounded."""
        return 255.0 * rgb_to_luma(self.rgb, self.matrix)

    @functools.cached_property
    def luma_codes(self) -> np.ndarray:
        """Give Y' of the codes, rounded, `[n, H, W]` uint8: that of a grey copy is the same."""
        return _luma_codes(self.frames, self.matrix)

    @functools.cached_property
    def chroma(self) -> np.ndarray:
        """Give a*b*, `[n, H, W, 2]`."""
        return color.chroma(self.rgb)

    @functools.cached_property
    def flows(self) -> list[Flow]:
        """Give the flow from each frame to the next; the first is from the frame before, if any."""
        if self.flow is not None:
            pairs = len(self) - (self.before is None)
            return [_fitting(self.flow(index), self.frames) for index in range(pairs)]
        lumas = self.followed(lambda chunk: chunk.luma_codes)
        return [dis_flow(a, b) for a, b in zip(lumas[:-1], lumas[1:], strict=True)]

    def followed(self, view: Callable[["Chunk"], np.ndarray]) -> np.ndarray:
        """Give a view of the frames, with that of the frame before, if any, at the front."""
        if self.before is None:
            return view(self)
        before = Chunk(self.before[None], matrix=self.matrix)
        return np.concatenate([view(before), view(self)])

    def features(self, network: str) -> Any:
        """Give a network's features of the frames, padded to `room`."""
        if network not in self._features:
            border = [(0, self.room - len(self))] + [(0, 0)] * 3
            self._features[network] = self.networks[network].features(np.pad(self.rgb, border))
        return self._features[network]

    @functools.cached_property
    def _features(self) -> dict[str, Any]:
        return {}


def grey(chunk: Chunk) -> Chunk:
    """Copy a chunk without its colors."""
    frames, before = (
        None if part is None else np.repeat(_luma_codes(part, chunk.matrix)[..., None], 3, axis=-1)
        for part in (chunk.frames, chunk.before)
    )
    return Chunk(frames, before, chunk.matrix, chunk.flow, chunk.networks, chunk.room)


def _fitting(flow: Flow, frames: np.ndarray) -> Flow:
    if flow.seen.shape != frames.shape[1:3]:
        raise ValueError(
            f"flow of {flow.seen.shape[1]}x{flow.seen.shape[0]} for frames of "
            f"{frames.shape[2]}x{frames.shape[1]}; give flow of the frames' size"
        )
    return flow


def _luma_codes(frames: np.ndarray, matrix: str) -> np.ndarray:
    return np.rint(rgb_to_luma(_codes(frames), matrix)).astype(np.uint8)


def _rgb(frames: np.ndarray) -> np.ndarray:
    if frames.dtype == np.uint8:
        return frames.astype(np.float32) * np.float32(1.0 / 255.0)
    return np.asarray(frames, np.float32)


def _codes(frames: np.ndarray) -> np.ndarray:
    if frames.dtype == np.uint8:
        return frames
    return np.rint(np.clip(frames, 0.0, 1.0) * 255.0).astype(np.uint8)
