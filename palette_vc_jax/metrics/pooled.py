"""Metrics of sets of films: Frechet distances of network features, pooled over all clips.

A set's features are kept as moments, so that memory does not grow with the set.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from palette_vc_jax.metrics.chunk import Chunk, FeatureNetwork
from palette_vc_jax.metrics.frechet import Moments, Normal, add, distance, normal


class Pooled(NamedTuple):
    """A metric of sets of films."""

    title: str  # established name
    network: str  # name of the network whose features are compared
    frames: int  # consecutive frames of one feature; features share no frame


POOLED = {
    "fid": Pooled("FID (pytorch-fid)", "inception_pytorch_fid", 1),
    "fvd": Pooled("FVD (I3D, 16 frames)", "i3d", 16),
}


class FeatureStats:
    """Collect statistics of the features of one row of the table."""

    def __init__(self, metric: Pooled, networks: Mapping[str, FeatureNetwork]):
        self.metric, self.network = metric, networks[metric.network]
        self.moments: Moments | None = None
        self.before: Moments | None = None  # moments when the current clip began
        self.waiting: list[np.ndarray] = []  # frames of a video that is not complete yet

    @property
    def count(self) -> int:
        """The number of frames or videos whose features were added."""
        return self.moments.count if self.moments else 0

    def update(self, chunk: Chunk) -> None:
        """Add the next frames of a clip."""
        features = np.asarray(chunk.features(self.metric.network))[: len(chunk)]
        if self.metric.frames == 1:
            self.moments = add(self.moments, features)
            return
        self.waiting += list(features)
        while len(self.waiting) >= self.metric.frames:
            video = np.stack(self.waiting[: self.metric.frames])
            del self.waiting[: self.metric.frames]
            self.moments = add(self.moments, np.asarray(self.network.videos(video[None])))

    def begin_clip(self) -> None:
        """Begin the next clip."""
        self.waiting, self.before = [], self.moments

    def end_clip(self) -> None:
        """End a clip, and drop frames at its end that do not fill a video.

        Raises:
            ValueError: if the clip is too short for one video.
        """
        if self.moments is self.before:
            raise ValueError(f"fewer than {self.metric.frames} frames")

    def drop_clip(self) -> None:
        """Remove the features of the current clip."""
        self.moments = self.before

    def compute(self, truth: "FeatureStats") -> float:
        """Return the Frechet distance to the truth's features.

        Raises:
            ValueError: if there are fewer than two features.
        """
        if self.count < 2:
            what = "frames" if self.metric.frames == 1 else f"videos of {self.metric.frames} frames"
            raise ValueError(f"fewer than 2 {what} in all")
        return distance(self.normal, truth.normal)

    @functools.cached_property
    def normal(self) -> Normal:
        """The normal distribution of the features; read it after the last update."""
        return normal(self.moments.mean, self.moments.covariance)
