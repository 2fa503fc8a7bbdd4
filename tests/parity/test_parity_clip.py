"""The image encoder against transformers, its preprocessing against diffusers' pipeline."""

import jax
import numpy as np
import pytest

from palette_vc_jax.models.clip import preprocess

torch = pytest.importorskip("torch", reason="parity needs torch")
transformers = pytest.importorskip("transformers", reason="parity needs transformers")
diffusers = pytest.importorskip("diffusers", reason="parity needs diffusers")
svd = pytest.importorskip(
    "diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion"
)

B = 2
BLOCK, WHOLE = 1e-5, 5e-5


def _normal(seed, *shape, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def _pictures(seed, *shape):
    """Pictures in [-1, 1] with detail that a missing low-pass would alias."""
    return np.random.default_rng(seed).uniform(-1, 1, (*shape, 3)).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("index", [0, 2])
def test_layer(clip, run, torch_call, check, index, scale):
    """If this fails, GELU is the tanh variant, or an epsilon or the split into heads is wrong."""
    theirs, ours = clip.both(f"vision_model.encoder.layers.{index}")

    def forward(x):
        out = theirs(x, attention_mask=None)
        return out[0] if isinstance(out, tuple) else out

    x = _normal(1, B, 50, 64, scale=scale)
    check(run(ours, x), torch_call(forward, x), BLOCK)


def test_embeddings(clip, run, torch_call, check):
    """If this fails, the class token is not first, or patches run down columns."""
    theirs, ours = clip.both("vision_model.embeddings")
    pictures = _normal(2, B, 224, 224, 3)
    expected = torch_call(lambda x: theirs(x.permute(0, 3, 1, 2)), pictures)
    check(run(ours, pictures), expected, BLOCK)


def test_tower(clip, run, torch_call, check):
    """If this fails, another token is pooled, or the embedding is scaled to unit length."""
    pictures = _normal(3, B, 224, 224, 3)
    expected = torch_call(
        lambda x: clip.torch(x.permute(0, 3, 1, 2)).image_embeds[:, None], pictures
    )
    check(run(clip.flax, pictures), expected, WHOLE)


@pytest.mark.parametrize(
    "height, width, size",
    [
        (144, 256, 56),  # both sides shrink, by different factors
        (576, 1024, 224),  # SVD's own
        (40, 50, 64),  # both grow
        (300, 40, 56),  # one shrinks, one grows
        (64, 64, 64),
        (225, 223, 224),
    ],
)
def test_preprocessing(torch_call, check, height, width, size):
    """If this fails, the blur, its border, the bicubic kernel or its alignment differ."""
    pictures = _pictures(4, B, height, width)
    processor = transformers.CLIPImageProcessor()

    def forward(pictures):
        resized = svd._resize_with_antialiasing(pictures.permute(0, 3, 1, 2), (size, size))
        values = processor(
            images=(resized + 1.0) / 2.0,
            do_normalize=True,
            do_center_crop=False,
            do_resize=False,
            do_rescale=False,
            return_tensors="pt",
        ).pixel_values
        return values.permute(0, 2, 3, 1)

    ours = jax.jit(preprocess, static_argnums=1)(pictures, size)
    check(np.asarray(ours), torch_call(forward, pictures), WHOLE)


def test_picture_to_embedding_as_the_pipeline_does(clip, run, check):
    """If this fails, a step between an 8-bit picture and SVD's context is left out or doubled."""
    from PIL import Image

    picture = np.random.default_rng(5).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    pipeline = diffusers.StableVideoDiffusionPipeline(
        vae=diffusers.AutoencoderKLTemporalDecoder(block_out_channels=(32,)),
        image_encoder=clip.torch,
        unet=None,
        scheduler=diffusers.EulerDiscreteScheduler(),
        feature_extractor=transformers.CLIPImageProcessor(),
    )
    with torch.no_grad():
        expected = pipeline._encode_image(Image.fromarray(picture), "cpu", 1, False).numpy()
    pictures = picture[None].astype(np.float32) / 127.5 - 1.0
    check(run(clip.flax, pictures, call=_embed), expected, WHOLE)


def _embed(module, pictures):
    return module(preprocess(pictures, 224))
