"""A chunk of a film's frames, and its views for metrics, each computed once.

Metrics read a film as a stream of chunks, so that memory does not grow with its length. Each row
of the table is a stream, as is the truth, and all rows share the views of the truth's chunks.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from palette_vc_jax.metrics import color
from palette_vc_jax.video.color import rgb_to_luma
from palette_vc_jax.video.flow import Flow, dis_flow


class FeatureNetwork(NamedTuple):
    """A network whose features metrics compare, as jitted functions.

    Args:
        features: function from sRGB `[n, H, W, 3]`, float32 in [0, 1], to a tree of arrays
            `[n, ...]`.
        distance: function from two such trees to `[n]`; for networks that compare frames.
        videos: function from features of frames `[1, T, ...]` to `[1, C]`; for video networks.
    """

    features: Callable
    distance: Callable | None = None
    videos: Callable | None = None


class Chunk:
    """Consecutive frames, and the frame before them.

    Args:
        frames: sRGB `[n, H, W, 3]`, uint8 or float in [0, 1].
        before: the last frame of the previous chunk; None at the film's start.
        matrix: color matrix of the truth's luma, such as `bt709`.
        flow: function that returns the flow from the n-th frame of `with_before` to the next;
            None computes DIS flow.
        networks: networks by name, for the views that need them.
        room: frames in one call of a network; fewer are padded, so that one shape is compiled.
    """

    def __init__(
        self,
        frames: np.ndarray,
        before: np.ndarray | None = None,
        matrix: str = "bt601",
        flow: Callable[[int], Flow] | None = None,
        networks: Mapping[str, FeatureNetwork] | None = None,
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
        """The frames as `[n, H, W, 3]` float32 in [0, 1]."""
        return _rgb(self.frames)

    @functools.cached_property
    def codes(self) -> np.ndarray:
        """The frames as `[n, H, W, 3]` uint8."""
        return _codes(self.frames)

    @functools.cached_property
    def luma(self) -> np.ndarray:
        """Y' `[n, H, W]`, float32, 0 to 255, not rounded."""
        return 255.0 * rgb_to_luma(self.rgb, self.matrix)

    @functools.cached_property
    def luma_codes(self) -> np.ndarray:
        """Rounded Y' of the codes, `[n, H, W]` uint8; a gray copy has the same."""
        return _luma_codes(self.frames, self.matrix)

    @functools.cached_property
    def chroma(self) -> np.ndarray:
        """a*b* `[n, H, W, 2]`."""
        return color.chroma(self.rgb)

    @functools.cached_property
    def flows(self) -> list[Flow]:
        """The flow from each frame to the next, beginning with `before` if there is one."""
        if self.flow is not None:
            pairs = len(self) - (self.before is None)
            return [_fitting(self.flow(index), self.frames) for index in range(pairs)]
        lumas = self.with_before(lambda chunk: chunk.luma_codes)
        return [dis_flow(a, b) for a, b in zip(lumas[:-1], lumas[1:], strict=True)]

    def with_before(self, view: Callable[["Chunk"], np.ndarray]) -> np.ndarray:
        """Return a view of the frames, preceded by that of the frame before, if there is one."""
        if self.before is None:
            return view(self)
        before = Chunk(self.before[None], matrix=self.matrix)
        return np.concatenate([view(before), view(self)])

    def features(self, network: str) -> Any:
        """Return a network's features of the frames, padded to `room`."""
        if network not in self._features:
            border = [(0, self.room - len(self))] + [(0, 0)] * 3
            self._features[network] = self.networks[network].features(np.pad(self.rgb, border))
        return self._features[network]

    @functools.cached_property
    def _features(self) -> dict[str, Any]:
        return {}


def gray_copy(chunk: Chunk) -> Chunk:
    """Return a copy of a chunk without its colors."""
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
