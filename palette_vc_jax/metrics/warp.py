"""Measure how much a film changes along its motion.

This is the warp error of Lai et al. 2018, "Learning Blind Video Temporal Consistency", with the
mask of its `evaluate_WarpError.py`. The flow is that of the truth, so that every method is measured
along the same motion. It is read from files, or computed by `video.flow`.
"""

import functools
from pathlib import Path

import numpy as np

from palette_vc_jax.files import check_regular
from palette_vc_jax.video.flow import Flow, seen, warped
from palette_vc_jax.video.image_files import natural

DIRECTIONS = ("forward", "backward")
FLO_MAGIC, FLO_HEADER = b"PIEH", 12  # bytes: the float 202021.25, width and height


def check_flow(folder: Path, frames: int) -> None:
    """Check that a clip's folder has a flow for each pair of its frames.

    `folder`/forward and `folder`/backward hold Middlebury .flo files, sorted by the numbers in
    their names; a backward flow goes from the second frame of a pair to the first.

    Raises:
        ValueError: if there are more or fewer files, or a header is not valid.
    """
    for direction in DIRECTIONS:
        paths = _flow_files(folder / direction)
        if len(paths) != frames - 1:
            raise ValueError(
                f"{folder / direction}: {len(paths)} .flo files for {frames} frames; give "
                f"{frames - 1}, one for each pair."
            )
        for path in paths:
            _flow_size(path)


def read_flow(folder: Path, index: int) -> Flow:
    """Read the flow from frame `index` to the next, and back, from a checked folder.

    Raises:
        ValueError: if files are damaged or differ in size.
    """
    both = [_read_flo(_flow_files(folder / direction)[index]) for direction in DIRECTIONS]
    if both[0].shape != both[1].shape:
        raise ValueError(f"{folder}: forward and backward flow must have the same size.")
    return Flow(both[0], seen(*both))


def _read_flo(path: Path) -> np.ndarray:
    """Read one Middlebury file as `[H, W, 2]` float32."""
    height, width = _flow_size(path)
    flow = np.fromfile(path, "<f4", offset=FLO_HEADER).reshape(height, width, 2)
    if not np.isfinite(flow).all():
        raise ValueError(f"{path}: holds values that are not finite; compute the flow again.")
    return flow


def _flow_size(path: Path) -> tuple[int, int]:
    """Read the height and width of a Middlebury file, and check its length against them."""
    check_regular(path)
    with path.open("rb") as file:
        header = file.read(FLO_HEADER)
    if len(header) < FLO_HEADER or not header.startswith(FLO_MAGIC):
        raise ValueError(f"{path}: not a .flo file; write Middlebury's format.")
    width, height = np.frombuffer(header, "<i4", offset=len(FLO_MAGIC)).tolist()
    length = path.stat().st_size
    if min(width, height) < 1 or length != FLO_HEADER + 8 * width * height:
        raise ValueError(
            f"{path}: {length} bytes, but its header says {width}x{height} pixels of 8 bytes; "
            "the file is damaged: compute the flow again."
        )
    return height, width


@functools.lru_cache(maxsize=8)
def _flow_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.flo"), key=natural)


def warp_error(first: np.ndarray, second: np.ndarray, flow: Flow) -> float:
    """Return the mean squared change of `[H, W, C]` along the flow, over visible pixels.

    It is sum((second warped - first)^2 seen) / sum(seen) over pixels and channels, and nan if no
    pixel is visible in both frames.
    """
    change = (warped(second, flow.offsets) - first) ** 2
    weight = flow.seen.sum() * first.shape[-1]
    return float((change * flow.seen[..., None]).sum() / weight) if weight else float("nan")
