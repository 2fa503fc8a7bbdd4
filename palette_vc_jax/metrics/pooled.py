"""Metrics of whole sets of films: Frechet distances of network features, pooled over all clips.

A set's features are kept as moments, so that memory does not grow with it.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from palette_vc_jax.metrics.chunk import Chunk, Network
from palette_vc_jax.metrics.frechet import Moments, Normal, add, distance, normal


class Pooled(NamedTuple):
    """A metric of sets: its name in the field, and the network whose features it compares."""

    title: str
    network: str
    frames: int  # that the network sees together, one after the other, none twice


POOLED = {
    "fid": Pooled("FID (pytorch-fid)", "inception_pytorch_fid", 1),
    "fid_torchvision": Pooled("FID (torchvision's Inception)", "inception_torchvision", 1),
    "fvd": Pooled("FVD (I3D, 16 frames)", "i3d", 16),
}


class Pool:
    """Collects the features of one row of the table."""

    def __init__(self, metric: Pooled, networks: Mapping[str, Network]):
        self.metric, self.network = metric, networks[metric.network]
        self.moments: Moments | None = None
        self.before: Moments | None = None  # the clip
        self.waiting: list[np.ndarray] = []  # frames of a video that is not whole yet

    @property
    def count(self) -> int:
        """Count the frames or videos whose features were taken."""
        return self.moments.count if self.moments else 0

    def add(self, chunk: Chunk) -> None:
        """Take the next frames of a clip."""
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
        """Begin with the next clip."""
        self.waiting, self.before = [], self.moments

    def end_clip(self) -> None:
        """Leave out the frames at a clip's end that make no whole video.

        Raises ValueError if the clip is too short for one.
        """
        if self.moments is self.before:
            raise ValueError(f"fewer than {self.metric.frames} frames")

    def forget_clip(self) -> None:
        """Take back what this clip has added."""
        self.moments = self.before

    def distance(self, truth: "Pool") -> float:
        """Give the Frechet distance to the truth's features.

        Raises ValueError for fewer than two features.
        """
        if self.count < 2:
            what = "frames" if self.metric.frames == 1 else f"videos of {self.metric.frames} frames"
            raise ValueError(f"fewer than 2 {what} in all")
        return distance(self.normal, truth.normal)

    @functools.cached_property
    def normal(self) -> Normal:
        """Give the features' distribution, once all are there."""
        return normal(self.moments.mean, self.moments.covariance)
