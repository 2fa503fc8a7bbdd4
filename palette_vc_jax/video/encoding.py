"""Choose the codec of an output film from its extension.

`.mkv` is lossless FFV1 with the source's luma bit for bit and 4:4:4 chroma, `.mp4` is H.264 and
`.mov` is ProRes.
"""

from dataclasses import dataclass

from palette_vc_jax.video.film import Film

MUXERS = {".mkv": "matroska", ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
# A fixed quantizer keeps 45 dB on Y even for noise; a constant rate factor would remove grain.
X264_QP = {8: 13, 10: 21}  # by depth; H.264 has 12 more quantizer steps at 10 bits
# With the profile's default number of bits per block, grain falls to 30 dB.
PRORES = {"vendor": "apl0", "bits_per_mb": "4000"}


@dataclass(frozen=True)
class OutputOptions:
    """How a film is written, apart from the container that its extension selects."""

    audio: str = "copy"  # one of `audio.MODES`


DEFAULT_OUTPUT = OutputOptions()


@dataclass(frozen=True)
class Encoding:
    """Codec, pixel format and chroma subsampling of an output file."""

    codec: str
    options: dict[str, str]
    pix_fmt: str
    depth: int
    full_range: bool
    rows: int  # vertical chroma subsampling, 1 or 2
    columns: int  # horizontal chroma subsampling, 1 or 2


def encoding_for(suffix: str, film: Film) -> Encoding:
    """Return the encoding of a film for a file extension; films of odd size get 4:4:4 chroma."""
    odd = film.width % 2 or film.height % 2
    interlaced = film.field_order != "progressive"
    if suffix == ".mkv":
        options = {"level": "3", "slicecrc": "1"}
        pix_fmt = _planar("444", film.depth)
        return Encoding("ffv1", options, pix_fmt, film.depth, film.full_range, 1, 1)
    if suffix == ".mov":  # ProRes stores 10 bits in TV range only
        sampling, columns = ("444", 1) if odd else ("422", 2)
        options = PRORES | {"profile": "4444" if odd else "hq"}
        if interlaced:
            options["flags"] = "+ildct"
        return Encoding("prores_ks", options, _planar(sampling, 10), 10, False, 1, columns)
    depth, step = (8 if film.depth == 8 else 10), (1 if odd else 2)
    options = {"qp": str(X264_QP[depth]), "preset": "fast"}
    if interlaced:
        options["x264-params"] = "tff=1" if film.field_order == "top" else "bff=1"
    pix_fmt = _planar("444" if odd else "420", depth)
    return Encoding("libx264", options, pix_fmt, depth, film.full_range, step, step)


def _planar(sampling: str, depth: int) -> str:
    return f"yuv{sampling}p" + ("" if depth == 8 else f"{depth}le")
