"""Teach the demo's image tower what images show: it learns VGG16's features from gray images.

A tower that is trained with the UNet alone, on few clips, hardly learns to recognize anything. The
teacher has learned from a million labeled images. It sees each crop in color and large; the tower
sees the crop gray (sometimes in color) and small, as it does when a film is colored, and predicts
the teacher's features at each of its patches, reduced to their principal components.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from palette_vc_jax import cli
from palette_vc_jax.data.augment import TONE
from palette_vc_jax.data.crops import CropConfig, draw_crop, read_crop
from palette_vc_jax.data.sources import ClipSource, hold_out, open_clips
from palette_vc_jax.metrics.networks.load import load_feature_networks
from palette_vc_jax.models import functional, networks
from palette_vc_jax.models.clip import ImageEncoder
from palette_vc_jax.models.config import PRESETS, ModelConfig
from palette_vc_jax.models.store import Model, load_model, sha256, write_model
from palette_vc_jax.pixels import to_gray3, to_signed
from palette_vc_jax.training.config import RunConfig
from palette_vc_jax.training.loop import Task

TEACHER = "lpips_vgg"
SIDE = 192  # pixels of the teacher's images: 12 x 12 of its deepest features
LAYERS = (-2, -1)  # of the teacher's five: relu4_3 and relu5_3
BATCH = 8  # images that the teacher sees together
CHUNK = 64  # images that are projected or validated together
COLORED = 0.2  # share of images that the tower sees in color


def make_task(config: RunConfig) -> Task:
    """Build the task of `config.model`'s image tower on `config.data`."""
    model = PRESETS[config.model]()
    vae = load_model(Path(config.vae), ("vae",)).params
    sources = [open_clips(config.data.source, config.data.root)]
    if config.data.photos:
        sources.append(open_clips("photos", config.data.photos))
    counts = config.data.crops, config.data.photo_crops
    splits = [hold_out(source, config.data.hold_out_every) for source in sources]
    if not all(len(held) for _, held in splits):
        raise ValueError(
            f"data.hold_out_every={config.data.hold_out_every} holds out none of "
            f"{min(map(len, sources))} clips or photos, and the image tower is validated on both; "
            "give 2 to their number, or more of them."
        )
    teacher = _teacher(model)

    def read(part: int) -> list[np.ndarray]:
        pairs = zip(splits, counts, strict=False)
        found = [_read(split[part], config, crops, teacher) for split, crops in pairs]
        return [np.concatenate(arrays) for arrays in zip(*found, strict=True)]

    (images, features), (held, held_features) = read(0), read(1)
    mean, axes = principal(features, model.image_encoder.projection_dim)
    targets, held_targets = (project(x, mean, axes) for x in (features, held_features))
    del features, held_features

    def loss(params, frozen, batch, key):
        del frozen, key
        return features_loss(params, batch["image"], batch["target"], model)

    evaluate = jax.jit(lambda params, batch: loss(params, None, batch, None)[0])

    def validate(params, frozen) -> dict[str, float]:
        shown = to_gray3(to_signed(held))
        size = min(CHUNK, len(held))  # all batches have one shape; what is left over is not seen
        parts = [slice(i, i + size) for i in range(0, len(held) - size + 1, size)]
        batches = ({"image": shown[part], "target": held_targets[part]} for part in parts)
        return {"validation": float(np.mean([evaluate(params, batch) for batch in batches]))}

    def export(params, step: int, folder: Path) -> None:
        trained = {"image_encoder": params["image_encoder"], **vae}
        write_model(folder, Model(model, trained, origin={"step": step}))

    return Task(
        init=lambda: {
            "image_encoder": functional.init(ImageEncoder, model.image_encoder, config.seed)
        },
        frozen={},
        loss=loss,
        batches=lambda first, rows: _batches(images, targets, config, first, list(rows)),
        validate=validate,
        export=export,
        origin=lambda: {"vae": sha256(Path(config.vae) / "vae.safetensors")},
    )


def features_loss(
    params: functional.Params, images: jax.Array, targets: jax.Array, config: ModelConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the share of the targets' variance that the tower does not predict.

    Args:
        params: of the networks, by name.
        images: `[B, H, W, 3]` in [-1, 1].
        targets: `[B, L, D]` with mean 0.
        config: of the model.
    """
    found = networks.embed(config, params["image_encoder"], images)
    return jnp.square(found - targets).mean() / jnp.square(targets).mean(), {}


def principal(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean `[C]` and the first principal axes `[C, count]` of features `[..., C]`.

    Axes are scaled by variance^-1/4: the first ones stay the largest, the last ones count too.
    """
    flat = features.reshape(-1, features.shape[-1])[::7].astype(np.float32)
    mean = flat.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov((flat - mean).T))
    values, axes = values[::-1][:count], axes[:, ::-1][:, :count]
    scale = np.maximum(values, 1e-8) ** -0.25
    scale /= np.sqrt((values * scale**2).mean())  # unit variance on average
    return mean, (axes * scale).astype(np.float32)


def project(features: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return float32 `[N, L, count]`: features `[N, L, C]` along the `axes` of `principal`."""
    chunks = (features[i : i + CHUNK] for i in range(0, len(features), CHUNK))
    return np.concatenate([(chunk.astype(np.float32) - mean) @ axes for chunk in chunks])


def _teacher(model: ModelConfig) -> Callable[[jax.Array], jax.Array]:
    """Return a function from images `[B, SIDE, SIDE, 3]` in [0, 1] to features `[B, L, C]`."""
    found, missing = load_feature_networks((TEACHER,))
    if missing:
        raise ValueError(f"the teacher's weights are missing; run `{missing[TEACHER]}`.")
    tower = model.image_encoder
    grid = tower.image_size // tower.patch_size

    @jax.jit
    def features(images: jax.Array) -> jax.Array:
        layers = found[TEACHER].features(images)
        shapes = [(len(images), grid, grid, layers[i].shape[-1]) for i in LAYERS]
        small = [
            jax.image.resize(layers[i], shape, "linear")
            for i, shape in zip(LAYERS, shapes, strict=True)
        ]
        return jnp.concatenate(small, axis=-1).reshape(len(images), grid * grid, -1)

    return features


def _read(
    source: ClipSource, config: RunConfig, crops: int, teacher: Callable[[jax.Array], jax.Array]
) -> tuple[np.ndarray, np.ndarray]:
    """Read single frames; return uint8 images `[N, h, w, 3]` and float16 features `[N, L, C]`."""
    data = config.data
    cut = CropConfig(1, data.size, data.short_sides, crops, 1, data.mirrored, seed=config.seed)
    images, features = [], []
    numbers = range(len(source) * crops)
    for start in cli.progress(range(0, len(numbers), BATCH), "asking the teacher", "batch"):
        drawn = [draw_crop(source, number, cut) for number in numbers[start : start + BATCH]]
        pictures = [Image.fromarray(read_crop(source, crop, [0], cut)[0]) for crop in drawn]
        large = [picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for picture in pictures]
        found = teacher(np.stack(large).astype(np.float32) / 255.0)
        features.append(np.asarray(found, np.float16))
        height, width = data.patch
        images += [np.asarray(p.resize((width, height), Image.Resampling.BOX)) for p in pictures]
    return np.stack(images), np.concatenate(features)


def _batches(
    images: np.ndarray, targets: np.ndarray, config: RunConfig, first: int, rows: list[int]
) -> Iterator[dict[str, np.ndarray]]:
    """Draw batches; the tower's images have a random tone curve, and most are gray."""
    step = first // config.batch_size
    while True:
        rng = np.random.default_rng((config.seed, step))
        chosen = rng.integers(len(images), size=config.batch_size)[rows]
        gamma = np.exp(rng.normal(0.0, TONE, config.batch_size))[rows, None, None, None]
        gray = rng.random(config.batch_size)[rows, None, None, None] >= COLORED
        shown = 2.0 * (images[chosen] / np.float32(255.0)) ** gamma.astype(np.float32) - 1.0
        shown = np.where(gray, to_gray3(shown), shown).astype(np.float32)
        yield {"image": shown, "target": targets[chosen]}
        step += 1
