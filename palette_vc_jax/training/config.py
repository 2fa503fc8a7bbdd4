"""The config of a training run: every key with its default, its meaning and its allowed range.

A file in `configs/` changes some of the defaults of `base()`, and the command line changes more.
`read` turns the result into a `RunConfig` once; the code below the commands sees only that.
Conditions between keys are in `checks.py`. This module imports no JAX: config files import it
before the platform is chosen.
"""

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, config_dict

from palette_vc_jax.models.config import PRESETS
from palette_vc_jax.training.ranges import (
    FLAG,
    PATH,
    PATH_OR_NONE,
    PROBABILITY,
    TEXT,
    Rule,
    below_one,
    choice,
    number,
    optional,
    several,
    whole,
)

PACKAGE = Path(__file__).resolve().parents[1]
DEMO = str(PACKAGE / "demo")  # folder of the bundled model

_STEPS, _COUNT = 10**9, 10**6
_EVERY = whole(1, _STEPS)
_EVERY_OR_NEVER = whole(0, _STEPS, "give a number of steps, or 0 for never")
_PIXELS = several(whole(1, 2**14), 2)
_DEVICES = Rule(lambda n: n == -1 or whole(1, _COUNT).allows(n), "give 1 or more, or -1")
_PRESET = Rule(
    lambda name: isinstance(name, str) and name in PRESETS, f"use one of {', '.join(PRESETS)}"
)
_SOURCES = ("folders", "videos", "photos", "tfds")
_NARROW = (
    "use float32, or bfloat16 (TPUs, and GPUs of compute capability 8.0 or more); float16 is "
    "refused, for gradients would overflow: losses are not scaled"
)


def _key(default: Any, rule: Rule) -> Any:
    return dataclasses.field(default=default, metadata={"rule": rule})


@dataclass(frozen=True)
class MeshConfig:
    """The arrangement of the devices; the product of the first three keys is their number."""

    # One of these three may be -1, which means all devices that are left.
    data: int = _key(1, _DEVICES)  # parts that a batch is split into
    fsdp: int = _key(-1, _DEVICES)  # parts that a batch, the parameters and their state split into
    frames: int = _key(1, _DEVICES)  # parts that the frames of a clip are split into
    split_from: int = _key(2**16, whole(1, 2**62))  # elements; smaller tensors are replicated

    def sizes(self) -> dict[str, int]:
        """Return the sizes of the mesh's axes, by the names in `parallel.mesh.AXES`."""
        return {"data": self.data, "fsdp": self.fsdp, "frames": self.frames}


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank updates to kernels that are not trained themselves."""

    rank: int = _key(0, whole(0, 4096, "give 0 (off) or more, up to 4096"))
    alpha: float = _key(16.0, number(0.0, 1e6, above=True))  # updates are scaled by alpha / rank


@dataclass(frozen=True)
class RatesConfig:
    """Probabilities of what a training window is shown."""

    palette_dropout: float = _key(0.1, PROBABILITY)  # the null palette; not with shifted hues
    gray_dropout: float = _key(0.05, PROBABILITY)  # no gray latents
    reference_color: float = _key(0.45, PROBABILITY)  # CLIP sees the reference frame in color
    reference_none: float = _key(0.1, PROBABILITY)  # CLIP sees nothing; else the gray frame
    joint_dropout: float = _key(0.05, PROBABILITY)  # no palette, gray latents or reference at all


@dataclass(frozen=True)
class DataConfig:
    """The clips, and how crops and windows are taken from them."""

    # Folders of frames, video files, a folder of photos, or a prepared TFDS davis.
    source: str = _key(
        "folders", choice(*_SOURCES, advice="use 'folders', 'videos', 'photos' or 'tfds'")
    )
    root: str = _key("clips", PATH)  # folder of the clips
    photos: str = _key("", PATH_OR_NONE)  # folder of photos to train on besides the clips
    photo_rate: float = _key(0.3, below_one())  # share of windows that repeat one of these photos
    photo_crops: int = _key(8, whole(1, 10_000))  # crops of a photo
    cache: str = _key("", PATH_OR_NONE)  # folder for latents and palettes; '': encode each step
    # Processes that read ahead; 0 reads in threads.
    workers: int = _key(0, whole(0, 256, "give 0 (threads) or a number of processes up to 256"))
    # Batches that each process reads ahead, at most; a worker holds two.
    prefetch_batches: int = _key(4, whole(1, 1024))
    prefetch_mib: int = _key(1024, whole(1, 2**20))  # MiB for them, or for pixels to be cached
    # Each n-th clip is for validation and previews; 0 trains on all clips.
    hold_out_every: int = _key(0, whole(0, _COUNT, "give 0 (no clip), or 2 and more"))
    validation_root: str = _key("", PATH_OR_NONE)  # clips for validation, in place of those held
    validation_source: str = _key("folders", choice(*_SOURCES))
    frames: int = _key(14, whole(1, 10_000))  # frames of a crop, at most
    size: tuple[int, ...] = _key((576, 1024), _PIXELS)  # pixels of a crop: height, width
    # Pixels of the scaled frame's short side: least, most.
    short_sides: tuple[int, ...] = _key((576, 576), _PIXELS)
    crops: int = _key(1, whole(1, 10_000))  # crops of a clip
    mirrored: bool = _key(False, FLAG)  # every other crop is mirrored left to right
    reversed: bool = _key(False, FLAG)  # half of the windows run backward in time
    # Share of crops with a random hue shift, so that only the palette tells their colors; every
    # crop then has a random tone curve and saturation. None: colors as they are.
    hue_shift_rate: float | None = _key(None, optional(PROBABILITY))
    # Share of windows that are split into regions, each with the palette of its own pixels.
    region_rate: float = _key(0.0, PROBABILITY)
    reference_every: int = _key(4, whole(1, 10_000))  # frames between those for palette and CLIP
    window: int = _key(14, whole(1, 1024))  # frames of a window
    # Frames between neighbors in a window; each window draws one of them.
    strides: tuple[int, ...] = _key((1,), several(whole(1, 1024)))
    # For the VAE's task alone:
    patch: tuple[int, ...] = _key((32, 48), _PIXELS)  # pixels of a training clip
    gray_rate: float = _key(0.3, PROBABILITY)  # share of training clips without color


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW for fine-tuning or Muon for small new models, with warm-up."""

    kind: str = _key("adamw", choice("adamw", "muon", advice="use 'adamw' or 'muon'"))
    learning_rate: float = _key(1e-5, number(0.0, 10.0, above=True))  # with muon: of vectors
    muon_learning_rate: float = _key(1e-4, number(0.0, 10.0, above=True))  # of kernels, with muon
    # Peak rate of the palette layer; 0 is the rate of the rest.
    palette_learning_rate: float = _key(
        0.0, number(0.0, 10.0, advice="give 0 (the rate of the rest), or a number up to 10")
    )
    warmup_steps: int = _key(500, whole(0, _STEPS))
    steps: int = _key(10_000, whole(1, _STEPS))
    # After the warm-up: constant, or a cosine down to 0.
    decay: str = _key("constant", choice("cosine", "constant", advice="use 'cosine' or 'constant'"))
    b2: float = _key(0.999, below_one())
    weight_decay: float = _key(1e-2, number(0.0, 10.0))
    clip_norm: float = _key(1.0, number(0.0, 1e6, above=True))  # of the gradient


@dataclass(frozen=True)
class RunConfig:
    """A training run."""

    task: str = _key("unet", choice("vae", "image_encoder", "unet"))
    init_from: str = _key("", PATH_OR_NONE)  # model folder to fine-tune; '': a new model
    # Preset in models/config.py: a new model's, or for --compile_only where init_from is missing.
    model: str = _key("svd_xt", _PRESET)
    # Folder with the VAE of a new model, and with its image tower if that is not trained.
    vae: str = _key("", PATH_OR_NONE)
    # Presets in training/trainable.py, or regular expressions on parameter names.
    trained: tuple[str, ...] = _key(("unet",), several(TEXT))
    seed: int = _key(0, whole(0, 2**31 - 2))
    batch_size: int = _key(1, whole(1, 2**24))  # windows of a step
    accumulate: int = _key(1, whole(1, 2**16))  # parts of a batch whose gradients are averaged
    # Type that the UNet computes in; its parameters are float32 anyway.
    compute_dtype: str = _key("float32", choice("float32", "bfloat16", advice=_NARROW))
    # What the backward pass computes again: nothing, layers, or layers without their attention.
    remat: str = _key("none", choice("none", "layers", "attention"))
    # MiB that a layer which is computed again holds at once; 0: 64 on devices of up to 16 GiB,
    # else 2048.
    remat_budget_mib: int = _key(0, whole(0, 2**20, "give MiB, or 0 for the default"))
    # Weight of the loss over noise levels: v (SVD's), or eps (the paper's equation 5 as written).
    weighting: str = _key("v", choice("v", "eps"))
    sigma_mean: float = _key(1.0, number(-20.0, 20.0))  # ln sigma ~ N(mean, std^2)
    sigma_std: float = _key(1.6, number(0.0, 10.0, above=True))
    # Share of the noise's variance that all frames of a window have in common.
    shared_noise_fraction: float = _key(0.0, number(0.0, 1.0))
    fps: int = _key(6, whole(0, 1000))  # micro-conditioning: frames per second - 1
    motion_bucket: int = _key(127, whole(0, 255))  # micro-conditioning
    # Standard deviation of noise on the gray frames; needs data.cache=''.
    noise_augmentation: float = _key(0.0, number(0.0, 1.0))
    ema_decay: float = _key(0.9999, below_one())  # of the parameters' moving average
    log_every: int = _key(10, _EVERY)  # steps, as the next keys
    validate_every: int = _key(500, _EVERY_OR_NEVER)
    previews_every: int = _key(500, _EVERY_OR_NEVER)  # pictures of held-out clips in color
    save_every: int = _key(500, _EVERY)
    keep: int = _key(2, whole(1, _COUNT))  # newest checkpoints
    keep_every: int = _key(0, _EVERY_OR_NEVER)  # steps between checkpoints that are never deleted
    export_dtype: str = _key("float32", choice("float32", "bfloat16", "float16"))  # of the model
    validation_clips: int = _key(16, whole(1, 2**16))  # windows; a multiple of data x fsdp
    # Noise levels of the validation loss; the sampler's highest level is added.
    validation_sigmas: tuple[float, ...] = _key(
        (0.5, 2.0, 8.0, 30.0, 100.0), several(number(0.0, 1e6, above=True))
    )
    # For the VAE's task alone:
    color_floor: float = _key(0.003, number(0.0, 1.0, above=True))  # variance added to each axis
    kl_weight: float = _key(3e-4, number(0.0, 1e3))
    mesh: MeshConfig = MeshConfig()
    lora: LoraConfig = LoraConfig()
    rates: RatesConfig = RatesConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()


# Keys that the runs of earlier versions have under another name: old -> new.
RENAMED = {
    "noise_share": "shared_noise_fraction",
    "data.turned": "data.hue_shift_rate",
    "rates.grey_dropout": "rates.gray_dropout",
    "data.grey_rate": "data.gray_rate",
}


def rules(schema: type = RunConfig, prefix: str = "") -> dict[str, Rule]:
    """Return the rule of every key, by the key's full name, such as `data.window`."""
    found: dict[str, Rule] = {}
    for field in dataclasses.fields(schema):
        if "rule" in field.metadata:
            found[f"{prefix}{field.name}"] = field.metadata["rule"]
        else:
            found |= rules(type(field.default), f"{prefix}{field.name}.")
    return found


def keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the full names and the values of the keys in nested `values`."""
    for name, value in values.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def read(values: Mapping[str, Any] | ConfigDict) -> RunConfig:
    """Check the keys and the values of a config, and return it as dataclasses.

    Raises:
        ValueError: keys are unknown or missing, or a value is outside its range.
    """
    return _read(dict(keys(values)))


def _read(given: Mapping[str, Any]) -> RunConfig:
    """Check values by their keys' full names, and return them as dataclasses."""
    known = rules()
    unknown, missing = sorted(given.keys() - known.keys()), sorted(known.keys() - given.keys())
    wrong = [f"{what} {_listed(found)}" for what, found in
             (("unknown", unknown), ("missing", missing)) if found]  # fmt: skip
    if wrong:
        raise ValueError(
            f"config keys: {'; '.join(wrong)}; palette_vc_jax/training/config.py lists all keys."
        )
    for key, rule in known.items():
        if not rule.allows(given[key]):
            shown = repr(given[key])
            shown = shown if len(shown) < 60 else f"{shown[:60]}..."
            raise ValueError(f"{key}={shown}; {rule.advice}.")
    return _build(RunConfig, given, "")


def read_stored(values: Mapping[str, Any]) -> RunConfig:
    """Read the config of a run that an earlier version may have begun.

    Keys have their earlier names there, and those that were added since have their defaults.

    Raises:
        ValueError: as `read`.
    """
    stored = {RENAMED.get(key, key): value for key, value in keys(values)}
    return _read(dict(keys(dataclasses.asdict(RunConfig()))) | stored)


def base() -> ConfigDict:
    """Return the defaults of all keys as a locked `ConfigDict`, which config files change."""
    config = ConfigDict(dataclasses.asdict(RunConfig()))
    config.data.hue_shift_rate = config_dict.placeholder(float)  # None, or a number later
    return config.lock()


def is_local(argument: str) -> bool:
    """Return whether a config file's argument asks for its small variant, `runlocal`."""
    if argument not in ("", "runlocal"):
        raise ValueError(f"config argument {argument!r} is not known; use runlocal, or none.")
    return argument == "runlocal"


def load(name: str | Path, argument: str = "") -> ConfigDict:
    """Return the config of a file.

    Args:
        name: path of a `.py` file, or the bare name of one in `configs/`, such as `davis`.
        argument: handed to the file's `get_config`.

    Raises:
        ValueError: there is no such file, it is not a config, or it refuses the argument.
    """
    path = find(str(name))
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # as for every .py file
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config(argument)
    except ValueError:
        raise
    except Exception as error:  # whatever is wrong with a user's own file
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        reason = reason.partition(" Other fields present")[0]  # all keys and values follow
        raise ValueError(f"{path}: not a config that can be read ({reason}).") from error


def find(name: str) -> Path:
    """Return the file of a config: `name` is its path, or the bare name of a bundled one.

    Raises ValueError if there is no such file.
    """
    path = Path(name) if name.endswith(".py") else folder() / f"{name}.py"
    if not path.is_file() or not (name.endswith(".py") or name.isidentifier()):
        raise ValueError(
            f"config {name!r} is not known; use one of {', '.join(names())}, or give a .py file."
        )
    return path


def names() -> list[str]:
    """Return the names of the bundled configs."""
    return sorted(path.stem for path in folder().glob("*.py"))


def folder() -> Path:
    """Return the folder of configs: a wheel has it in the package, a checkout beside it."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def _build(schema: type, given: Mapping[str, Any], prefix: str) -> Any:
    values = {}
    for field in dataclasses.fields(schema):
        key = f"{prefix}{field.name}"
        if key in given:
            value = given[key]
            values[field.name] = tuple(value) if isinstance(value, list) else value
        else:
            values[field.name] = _build(type(field.default), given, f"{key}.")
    return schema(**values)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
