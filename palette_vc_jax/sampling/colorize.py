"""Color gray frames: encode, embed, sample and decode, as one stream over a run of shots."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import jax
import numpy as np

from palette_vc_jax.models.config import CONDITIONING, ModelConfig, check_limits
from palette_vc_jax.models.networks import Networks, choose_devices, load_networks, time_ids
from palette_vc_jax.models.store import Model
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.parallel import placement
from palette_vc_jax.parallel.device_memory import device_memory
from palette_vc_jax.sampling.decode import decode_chunks, encode_frames, plan_chunks
from palette_vc_jax.sampling.keyframes import TrackedKeyframes
from palette_vc_jax.sampling.reference import NONE, Reference
from palette_vc_jax.sampling.regions import RegionMaps
from palette_vc_jax.sampling.sampler import Progress, check_finite, sample
from palette_vc_jax.sampling.settings import FilmConditions, Known, SamplerSettings
from palette_vc_jax.sampling.shot_settings import ShotSettings
from palette_vc_jax.sampling.windows import Shot, from_zero
from palette_vc_jax.video.neutral import Neutral, check_neutral
from palette_vc_jax.video.resize import merge_rgb, resize

SMALLER = "--short_side, or give --dtype bfloat16"  # what needs less memory in every network
LIMITS = {
    "short_side": (1, 2**14),
    "encode_batch": (1, 2**12),
    "decode_chunk": (1, 2**12),
    **CONDITIONING,
}
MOST_MEMORY = 2**20  # GiB
TRANSITIONS = ("bridge", "ignore")
_PIXELS = 1  # makes the noise on gray frames independent of other uses of a seed


@dataclass(frozen=True)
class ColorizeSettings:
    """Settings of a run except the palette, the reference and the seed.

    Raises:
        ValueError: if a value is out of range.
    """

    sampler: SamplerSettings
    short_side: int  # pixels of the shorter side of the model's frames
    fps: int = 6  # the value sent to the network (SVD: frames per second - 1)
    motion_bucket: int = 127
    noise_augmentation: float = 0.0  # standard deviation of noise on gray pixels in [-1, 1]
    encode_batch: int = 8  # frames that a device encodes together
    decode_chunk: int = 10  # frames that a device decodes together
    decode_context: int = 1  # frames decoded and dropped at each end of a chunk
    decode_fade: int = 2  # frames over which neighboring chunks are cross-faded
    devices: int | None = None  # devices of this host that are used; None for all
    dtype: str = "auto"  # type of the networks: networks.DTYPES
    decode_dtype: str = "auto"  # type of the VAE
    attention: str = "auto"  # what computes the attention of long sequences: attention.CHOICES
    memory: float | None = None  # GiB of a device that may be used; None: what the device says
    neutral_dark: float = 0.12  # Y' below which chroma fades out, see `neutral.Neutral`
    neutral_bright: float = 0.9  # Y' above which chroma fades out
    transitions: str = "bridge"  # color fades, dissolves and wipes by their shots; or "ignore"
    leaving: bool = False  # whether networks leave the device while others work; see memory_plan

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)
        plan_chunks([(0, 1)], self.decode_chunk, self.decode_context, self.decode_fade)
        if self.memory is not None and not 0.0 < self.memory <= MOST_MEMORY:
            raise ValueError(
                f"{self.memory} GiB of memory; give a number above 0, at most {MOST_MEMORY}."
            )
        check_neutral(self.neutral)
        if self.transitions not in TRANSITIONS:
            known = ", ".join(TRANSITIONS)
            raise ValueError(f"transitions {self.transitions!r} is not known; use one of {known}.")

    @property
    def neutral(self) -> Neutral:
        """Return the lumas at which chroma fades out."""
        return Neutral(self.neutral_dark, self.neutral_bright)


def default_settings(config: ModelConfig, **overrides: Any) -> ColorizeSettings:
    """Return the settings that a model was trained for, with overrides.

    Args:
        config: config of the model.
        overrides: fields of `SamplerSettings` or `ColorizeSettings`; None keeps the default.

    Raises:
        ValueError: if an override is not known, or its value is not valid.
    """
    known = {f.name for kind in (SamplerSettings, ColorizeSettings) for f in fields(kind)}
    if unknown := sorted(overrides.keys() - (known - {"sampler"})):
        raise ValueError(
            f"setting {unknown[0]!r} is not known; docs/coloring.md lists the settings."
        )
    given = {name: value for name, value in overrides.items() if value is not None}
    values = asdict(config.sampling) | given
    # Defaults of the film's plan and of its automatic palette, which are no settings.
    del values["reference"], values["palette_colorfulness"]
    outer = {f.name: values.pop(f.name) for f in fields(ColorizeSettings) if f.name in values}
    return ColorizeSettings(SamplerSettings(**values), **outer)


def networks_for(
    model: Model, settings: ColorizeSettings, runs: Sequence[Sequence[Shot]]
) -> Networks:
    """Load a model onto the devices that `settings` name, to color runs of shots.

    Raises:
        ValueError: as `check_hardware`.
    """
    batches = -(-most_windows(settings, runs) // settings.sampler.windows_per_batch)
    with device_memory("the model", "give --dtype bfloat16 or a device with more memory"):
        return load_networks(model, batches, leaving=settings.leaving, **_hardware(settings))


def most_windows(settings: ColorizeSettings, runs: Sequence[Sequence[Shot]]) -> int:
    """Return the number of windows of the run of shots that has most of them."""
    alone = replace(settings.sampler, windows_per_batch=1)
    return max(alone.plan(from_zero(run)).windows for run in runs)


def check_hardware(
    settings: ColorizeSettings, there: Sequence[jax.Device] | None = None
) -> list[jax.Device]:
    """Return the devices that `settings` name, of `there` or of this host.

    Raises:
        ValueError: if they lack what `settings` ask for: their number, types, attention.
    """
    return choose_devices(**_hardware(settings), there=there)


def _hardware(settings: ColorizeSettings) -> dict[str, Any]:
    names = ("devices", "dtype", "decode_dtype", "attention")
    return {name: getattr(settings, name) for name in names}


def colorize(
    networks: Networks,
    grays: Iterable[np.ndarray],
    shots: Sequence[Shot],
    given: Sequence[ShotSettings],
    settings: ColorizeSettings,
    progress: Progress | None = None,
    regions: RegionMaps | None = None,
    keyframes: TrackedKeyframes | None = None,
    matrix: str = "bt601",
) -> Iterator[np.ndarray]:
    """Color a run of shots; yield frames in order, float32 `[n, H, W, 3]` in [0, 1].

    Args are those of `sample_latents`. Memory holds the latents of all shots (`sampler.film_bytes`)
    and the pixels of a few frames.

    Raises:
        FloatingPointError: if a network returns values that are not finite.
    """
    latents = sample_latents(
        networks, grays, shots, given, settings, progress, regions, keyframes, matrix
    )
    yield from decode_latents(networks, latents, shots, settings)


def sample_latents(
    networks: Networks,
    grays: Iterable[np.ndarray],
    shots: Sequence[Shot],
    given: Sequence[ShotSettings],
    settings: ColorizeSettings,
    progress: Progress | None = None,
    regions: RegionMaps | None = None,
    keyframes: TrackedKeyframes | None = None,
    matrix: str = "bt601",
) -> np.ndarray:
    """Return the color latents of a run of shots, float32 `[N, h, w, C]` of unit scale.

    Args:
        networks: from `networks.load_networks`.
        grays: Y' frames `[H, W]` in [0, 1] at the model's size, one per frame of `shots`; read
            once.
        shots: consecutive half-open ranges in the film's frame numbers.
        given: the settings of each shot. Their strength is not used.
        settings: see `ColorizeSettings`.
        progress: called with (done, total) batches of windows while sampling.
        regions: regions with palettes of their own, or None.
        keyframes: frames of the film with known colors, or None.
        matrix: matrix between RGB and luma of the film.

    Raises:
        FloatingPointError: if a network returns values that are not finite.
    """
    config, weights = networks.config, networks.weights
    middles = [(start + stop) // 2 for start, stop in shots]
    middle_frames: list[np.ndarray] = []
    first = shots[0][0]
    seeds = np.repeat([one.seed for one in given], [stop - start for start, stop in shots])
    images = {} if keyframes is None else keyframes.images(shots)
    colored: list[np.ndarray] = []  # of `images`, with the film's luma

    def noised() -> Iterator[np.ndarray]:
        for index, gray in enumerate(grays, start=first):
            if index in middles:
                middle_frames.append(gray)
            if index in images:
                image = resize(images[index], *gray.shape) / np.float32(255.0)
                colored.append(merge_rgb(gray, image, matrix))
            yield _with_noise(gray, settings.noise_augmentation, int(seeds[index - first]), index)

    def encode(frames: Iterable[np.ndarray]) -> np.ndarray:
        batch = networks.devices * settings.encode_batch
        latents = np.concatenate(list(encode_frames(networks.encode, frames, batch)))
        check_finite(latents, "the VAE's encoder")
        return latents

    known = None
    with device_memory("encoding", f"lower --encode_batch or {SMALLER}"):
        gray_latents = encode(noised())
        context = _context(networks, [one.reference for one in given], middle_frames)
        if keyframes is not None and images:
            known = keyframes.known(shots, config.vae.scaling_factor * encode(colored))
    palettes = _palettes(config, [one.palette for one in given], regions, shots)
    conditions = film_conditions(settings, gray_latents, context, *palettes, known)
    weights.keep("unet")
    fewer = f"lower --windows_per_batch, --window or {SMALLER}"
    with placement.on_mesh(networks.mesh), device_memory("the UNet", fewer):
        return sample(
            networks.predict,
            weights["unet"],
            conditions,
            shots,
            settings.sampler,
            [one.seed for one in given],
            # A device with little memory holds no more than the batches that it works on.
            store="host" if settings.leaving else "auto",
            progress=progress,
        )


def decode_latents(
    networks: Networks, latents: np.ndarray, shots: Sequence[Shot], settings: ColorizeSettings
) -> Iterator[np.ndarray]:
    """Decode the latents of a run of shots; yield frames as `colorize` does."""
    networks.weights.keep("vae")
    local = from_zero(shots)
    with device_memory("decoding", f"lower --decode_chunk or {SMALLER}"):
        for frames in decode_film(networks.decode, latents, local, settings, networks.devices):
            check_finite(frames, "the VAE's decoder")
            yield np.clip((frames + 1.0) / 2.0, 0.0, 1.0)


def _palettes(
    config: ModelConfig,
    palettes: Sequence[Palette | None],
    regions: RegionMaps | None,
    shots: Sequence[Shot],
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the palette, mask and regions of `FilmConditions`.

    If each shot has one palette, it is given as the paper's, so that the same program runs.
    """
    others = () if regions is None else regions.palettes
    given = [[palette, *others] for palette in palettes]
    null = np.zeros(3 * config.unet.palette_colors, np.float32)
    vectors = np.array([[null if own is None else own.vector() for own in row] for row in given])
    mask = np.array([[own is not None for own in row] for row in given], np.float32)
    whole = [0] * len(shots) if regions is None else regions.whole(shots)
    if regions is not None and whole is None:
        return vectors, mask, regions.shares(shots)
    rows = np.arange(len(shots))
    return vectors[rows, whole], mask[rows, whole], None


def film_conditions(
    settings: ColorizeSettings,
    gray: np.ndarray,
    context: np.ndarray,
    palette: np.ndarray,
    palette_mask: np.ndarray | float = 1.0,
    regions: np.ndarray | None = None,
    known: Known | None = None,
) -> FilmConditions:
    """Return the conditions of a film; shapes are those of `FilmConditions`."""
    ids = time_ids(settings.fps, settings.motion_bucket, settings.noise_augmentation)
    return FilmConditions(gray, context, ids, palette, palette_mask, regions, known)


def decode_film(
    decode: Callable[[np.ndarray], np.ndarray | jax.Array],
    latents: np.ndarray,
    shots: Sequence[Shot],
    settings: ColorizeSettings,
    devices: int = 1,
) -> Iterator[np.ndarray]:
    """Decode latents by `decode_chunks` with the chunk sizes of `settings`."""
    sizes = settings.decode_chunk, settings.decode_context, settings.decode_fade
    return decode_chunks(decode, latents, shots, *sizes, devices)


def _with_noise(gray: np.ndarray, deviation: float, seed: int, index: int) -> np.ndarray:
    """Add SVD's noise augmentation to frame `index` of a film.

    SVD adds noise of this standard deviation to pixels in [-1, 1] before the VAE. A frame's noise
    depends only on the seed and the frame's number.

    Args:
        gray: Y' `[H, W]` in [0, 1].
        deviation: standard deviation of the noise, on the scale of [-1, 1].
        seed: seed of the noise.
        index: number of the frame in the film.

    Returns:
        `gray` itself if the deviation is 0, else `[H, W, 3]`.
    """
    if deviation == 0.0:
        return gray
    noise = np.random.default_rng((_PIXELS, seed, index)).standard_normal((*gray.shape, 3))
    return (gray[..., None] + 0.5 * deviation * noise).astype(np.float32)


def _context(
    networks: Networks, references: Sequence[Reference], grays: list[np.ndarray]
) -> np.ndarray:
    """Return the image embeddings `[S, L, D]` of S shots with the middle frames `grays`."""
    tower = networks.config.image_encoder
    null = np.zeros((tower.context_length, tower.projection_dim), np.float32)

    def embed(image: np.ndarray) -> np.ndarray:  # one at a time, so that all are one program
        return np.asarray(networks.embed(2.0 * image[None] - 1.0))[0]

    images = {id(one.image): one.image for one in references if one.image is not None}
    colored = {
        key: embed(resize(image, *grays[0].shape) / np.float32(255.0))
        for key, image in images.items()
    }
    rows = []
    for reference, gray in zip(references, grays, strict=True):
        if reference.source == NONE.source:
            rows.append(null)
        elif reference.image is None:
            rows.append(embed(gray[..., None].repeat(3, axis=-1)))
        else:
            rows.append(colored[id(reference.image)])
    context = np.stack(rows)
    check_finite(context, "the image encoder")
    return context
