"""Read and set which field of an interlaced frame comes first.

PyAV does not expose FFmpeg's flag of a frame, so filters of FFmpeg read and set it.
"""

from fractions import Fraction

import numpy as np
from av.error import FFmpegError
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

TOP_FIELD_FIRST, BOTTOM_FIELD_FIRST = (2, 4), (3, 5)  # AVFieldOrder: coded and displayed order


def field_order(frame: VideoFrame, stream: VideoStream) -> str:
    """Return `progressive`, or the field that comes first: `top` or `bottom`.

    The stream's entry is used if it has one. DV has none, so the frame's flag is used there.

    Args:
        frame: a decoded frame; its pixels are overwritten.
        stream: the stream of the frame.
    """
    order = int(stream.codec_context.field_order)
    if order in BOTTOM_FIELD_FIRST:
        return "bottom"
    if order in TOP_FIELD_FIRST:
        return "top"
    return first_field(frame) if frame.interlaced_frame else "progressive"


def first_field(frame: VideoFrame) -> str:
    """Return the field that comes first in an interlaced frame, `top` or `bottom`.

    The rows of the frame are numbered by their field, and FFmpeg returns the first field.
    `top` is returned for pixel formats that FFmpeg cannot divide.

    Args:
        frame: a decoded frame; its pixels are overwritten.
    """
    try:
        graph = _graph(frame.width, frame.height, frame.format.name, "separatefields")
        frame.make_writable()
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[0::2], rows[1::2] = 0, 255
        graph.push(frame)
        field = graph.pull()
    except FFmpegError:
        return "top"
    return "bottom" if np.frombuffer(field.planes[0], np.uint8)[0] else "top"


def field_marker(width: int, height: int, pix_fmt: str, order: str) -> Graph:
    """Return a graph that marks frames as interlaced, for `mark_fields`.

    Args:
        width: width of the frames in pixels.
        height: height of the frames in pixels.
        pix_fmt: pixel format of the frames.
        order: the field that comes first, `top` or `bottom`.
    """
    return _graph(width, height, pix_fmt, "setfield", "tff" if order == "top" else "bff")


def mark_fields(frame: VideoFrame, marker: Graph) -> VideoFrame:
    """Return a frame marked as interlaced, which encoders write into the pictures."""
    marker.push(frame)
    return marker.pull()


def _graph(width: int, height: int, pix_fmt: str, name: str, options: str | None = None) -> Graph:
    graph = Graph()
    unit = Fraction(1, 25)  # frames keep their own times; the filters only need some unit
    source = graph.add_buffer(
        width=width, height=height, format=VideoFormat(pix_fmt), time_base=unit
    )
    graph.link_nodes(source, graph.add(name, options), graph.add("buffersink")).configure()
    return graph
