"""Know which files are films or images, and refuse those that name other files."""

import contextlib
import functools
from pathlib import Path

import av

# Extensions of the films that are looked for in folders; other files are films if they are named.
FILMS = {
    ".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".evo", ".f4v", ".flv", ".gif",
    ".gxf", ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2",
    ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mpv",
    ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".tp", ".trp",
    ".ts", ".vob", ".vro", ".webm", ".wmv", ".wtv", ".y4m",
}  # fmt: skip
IMAGES = {
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dpx",
    ".pgm", ".ppm", ".pnm", ".tga",
}  # fmt: skip
# Images that FFmpeg or PyAV reads wrongly or not at all, such as linear light in EXR.
OTHER_IMAGES = {".exr", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k"}
# Inputs that name other files or addresses, or that are no files.
REFERRING = {
    "concat", "dash", "hls", "image2", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp",
    "webm_dash_manifest",
}  # fmt: skip
PLAYLISTS = (b"ffconcat", b"#EXTM3U", b"v=0")  # how such files begin


@functools.cache
def readable_formats() -> str:
    """Return the names of the formats that may be read, for FFmpeg."""
    return ",".join(sorted(av.formats_available - REFERRING))


def refuse_playlist(path: Path) -> None:
    """Raise ValueError if a file is a playlist."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read(64).removeprefix(b"\xef\xbb\xbf").startswith(PLAYLISTS):
            raise ValueError(f"{path}: a playlist; give the films that it names, one by one.")
