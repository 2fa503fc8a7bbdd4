"""Consistent video colorization by palette guidance, in JAX and Flax.

    from palette_vc_jax import Palette, color_film, load_model

    model = load_model()  # the bundled demo model
    color_film("gray.mp4", "colored.mkv", model, Palette.from_colors("tomato, teal, khaki"))

The public names are imported when they are first used, so that `import palette_vc_jax` is fast and
starts no JAX backend.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

DEMO = Path(__file__).resolve().parent / "demo"  # folder of the bundled model

_PUBLIC = {
    "Model": "models.store",
    "load_model": "models.store",
    "Palette": "palette.palette",
    "Film": "video.film",
    "open_film": "video.film",
    "OutputOptions": "video.encoding",
    "Plan": "sampling.plan",
    "Result": "sampling.job",
    "plan_film": "sampling.plan",
    "auto_palette": "sampling.auto",
    "ShotSettings": "sampling.shot_settings",
    "Region": "sampling.regions",
    "Keyframe": "sampling.keyframes",
    "color_film": "sampling.job",
    "color_frames": "sampling.frames",
    "TrimSettings": "sampling.trim",
    "trim_film": "sampling.trim",
    "ColorizeSettings": "sampling.colorize",
    "default_settings": "sampling.colorize",
    "convert_svd": "conversion.svd",
    "EvaluationOptions": "evaluation",
    "evaluate": "evaluation",
}
__all__ = ["DEMO", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
