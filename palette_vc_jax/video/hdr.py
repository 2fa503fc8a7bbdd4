"""Show HDR films to the model as SDR, and move its colors back to the film's transfer function.

The model is trained on SDR. The luma of the output stays the film's own.
"""

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

# Codes of H.273 for the transfer functions of BT.2100: PQ (SMPTE ST 2084) and HLG.
PQ, HLG = 16, 18
NAMES = {PQ: "PQ", HLG: "HLG"}
WHITE = 203.0  # cd/m2 of diffuse white in HDR, which becomes SDR's white (BT.2408)
HLG_PEAK, HLG_GAMMA = 1000.0, 1.2  # of a reference display, BT.2100-2 table 5
STEPS = 4096  # of the tables, between which values are interpolated


def mastering(frame: VideoFrame) -> str:
    """Return a frame's mastering display and light levels as parameters of x265.

    The side data is FFmpeg's `AVMasteringDisplayMetadata` (x and y of red, green, blue and white,
    the least and the greatest luminance, each as a fraction, and two flags) and
    `AVContentLightMetadata`. x265 counts x and y in 0.00002, and luminance in 0.0001 cd/m2. The
    text is empty if there is none.
    """
    params = []
    for data in frame.side_data:
        values = np.frombuffer(bytes(data), np.int32) if len(bytes(data)) % 4 == 0 else []
        # A fraction of a value that is no number has the denominator 0.
        whole = len(values) == 22 and values[1:20:2].all() and values[20:].all()
        if data.type == Type.MASTERING_DISPLAY_METADATA and whole:
            parts = values[:20].reshape(10, 2).astype(np.float64)
            units = np.rint(parts[:, 0] / parts[:, 1] * ([50000.0] * 8 + [10000.0] * 2))
            rx, ry, gx, gy, bx, by, wx, wy, least, most = (int(unit) for unit in units)
            params.append(
                f"master-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({most},{least})"
            )
        if data.type == Type.CONTENT_LIGHT_LEVEL and len(values) == 2:
            params.append(f"max-cll={values[0]},{values[1]}")
    return ":".join(params)


def sdr_gray(gray: np.ndarray, transfer: int) -> np.ndarray:
    """Convert Y' of a film with a transfer function to SDR's; return other films' as is.

    Light above `WHITE` is clipped.

    Args:
        gray: Y' in [0, 1].
        transfer: the film's transfer characteristics, H.273.
    """
    if transfer not in NAMES:
        return gray
    codes = np.linspace(0.0, 1.0, STEPS)
    table = _to_bt709(np.minimum(_light(codes, transfer) / WHITE, 1.0))
    return np.interp(gray, codes, table).astype(np.float32)


def film_rgb(rgb: np.ndarray, transfer: int) -> np.ndarray:
    """Convert SDR's RGB in [0, 1] to a film's transfer function; return other films' as is."""
    if transfer not in NAMES:
        return rgb
    codes = np.linspace(0.0, 1.0, STEPS)
    light = _light(codes, transfer)
    below = light <= WHITE
    table = _to_bt709(light[below] / WHITE)
    return np.interp(rgb, table, codes[below]).astype(np.float32)


def _light(codes: np.ndarray, transfer: int) -> np.ndarray:
    """Convert codes in [0, 1] to light in cd/m2 (BT.2100-2 tables 4 and 5, for gray)."""
    if transfer == PQ:
        root = codes ** (4096 / 2523 / 128)
        numerator = np.maximum(root - 3424 / 4096, 0.0)
        return 10_000.0 * (numerator / (32 * 2413 / 4096 - 32 * 2392 / 4096 * root)) ** (
            16384 / 2610
        )
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(codes <= 0.5, codes**2 / 3.0, (np.exp((codes - c) / a) + b) / 12.0)
    return HLG_PEAK * scene**HLG_GAMMA


def _to_bt709(light: np.ndarray) -> np.ndarray:
    """Convert linear light in [0, 1] to Y' (BT.709-6, item 1.2)."""
    return np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099)
