"""Read depth, range, matrix, color tags and orientation from a decoded frame."""

import av
import numpy as np
from av.video.frame import VideoFrame

HD_LINES = 720  # untagged films are BT.601 below this height, BT.709 at or above it

# FFmpeg uses the codes of ISO/IEC 23091-4 (H.273).
UNSPECIFIED = 2
MATRICES = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709", 9: "bt2020", 10: "bt2020"}
DEFAULT_TAGS = {"bt601": (6, 6, 6), "bt709": (1, 1, 1), "bt2020": (9, 9, 14)}
FULL_RANGE = 2  # AVCOL_RANGE_JPEG


def luma_depth(frame: VideoFrame) -> int:
    """Return the bits of a frame's luma, 8 to 16; for RGB other than planar GBR, 8 or 16."""
    name, bits = frame.format.name, max(c.bits for c in frame.format.components)
    if stores_rgb(frame) and not name.startswith("gbrp"):
        return 8 if bits <= 8 else 16
    return min(16, max(8, frame.format.components[0].bits))


def stores_rgb(frame: VideoFrame) -> bool:
    """Return whether a frame holds RGB (or indices into an RGB palette) rather than Y'."""
    return frame.format.is_rgb or frame.format.has_palette or frame.format.is_bayer


def luma_facts(frame: VideoFrame, is_image: bool) -> dict:
    """Return the depth, range, matrix and tags of a decoded frame as fields of `Film`.

    Untagged frames are BT.601 below 720 lines and in images that store Y' (JPEG), else BT.709.
    Untagged `gray*` and all `yuvj*` are full range, other untagged Y' is not.
    """
    name, is_rgb = frame.format.name, stores_rgb(frame)
    code = int(frame.colorspace)
    if code in MATRICES and not is_rgb:
        matrix = MATRICES[code]
    elif is_image and not is_rgb:
        matrix = "bt601"
    else:
        matrix = "bt601" if frame.height < HD_LINES else "bt709"
    tags = list(DEFAULT_TAGS[matrix])
    if (matrix, code) == ("bt601", 5):
        tags[0] = 5
    given = (code, int(frame.color_primaries), int(frame.color_trc))
    for index in (1, 2):
        if given[index] not in (0, UNSPECIFIED):
            tags[index] = given[index]
    given_range = int(frame.color_range)
    is_gray = name.startswith(("gray", "ya", "mono"))
    full = is_rgb or name.startswith("yuvj") or given_range == FULL_RANGE
    return {
        "depth": luma_depth(frame),
        "is_rgb": is_rgb,
        "full_range": full or (is_gray and given_range == 0),
        "matrix": matrix,
        "tags": tuple(tags),
        "pix_fmt": name,
    }


def display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """Return the display matrix of a frame, 9 values as in MP4, or None if it is upright."""
    for data in frame.side_data:
        if data.type == av.sidedata.sidedata.Type.DISPLAYMATRIX:
            matrix = tuple(int(n) for n in np.frombuffer(bytes(data), np.int32))
            plain = (matrix[0] > 0, matrix[1], matrix[3], matrix[4] > 0) == (True, 0, 0, True)
            return None if plain else matrix
    return None
