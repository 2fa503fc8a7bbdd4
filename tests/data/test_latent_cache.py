"""The latent cache: the same batches as without, and never those of something else."""

import shutil

import numpy as np
import pytest

from palette_vc_jax.data import cache as caches
from palette_vc_jax.data import loader
from palette_vc_jax.data.cache import CacheReader, cache_key, stored_key, write_cache
from palette_vc_jax.data.crops import CropConfig
from palette_vc_jax.data.latents import Encoder
from palette_vc_jax.data.samples import ClipReader, SampleConfig
from palette_vc_jax.data.sources import open_clips
from palette_vc_jax.models.store import load_model
from tests import films, tiny

CROPS = CropConfig(
    frames=5, size=(16, 24), short_sides=(16, 20), crops=2, reference_every=2, turned=0.5
)


@pytest.fixture
def source(tmp_path):
    """Make three clips of random pictures, the second one shorter."""
    rng = np.random.default_rng(0)
    for clip, length in enumerate((6, 3, 7)):
        pictures = [rng.integers(0, 256, (20, 30, 3)).astype(np.uint8) for _ in range(length)]
        films.write_pictures(tmp_path / "clips" / f"clip{clip}", pictures)
    return open_clips("folders", tmp_path / "clips")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(tiny.write_model(tmp_path_factory.mktemp("model")))


def _batches(reader, encoder, count=4):
    stream = loader.batches(
        reader, SampleConfig(3, (1, 2)), CROPS.reference_every, loader.LoaderConfig(3)
    )
    return [encoder.batch(next(stream)) for _ in range(count)]


@pytest.mark.parametrize("embeds", [False, True])
def test_batches_are_the_same_with_and_without(source, model, tmp_path, monkeypatch, embeds):
    """If this fails, training from the cache is another training."""
    monkeypatch.setattr(caches, "SHARD", 4)  # crops in two shards
    encoder = Encoder(model, embeds)
    write_cache(tmp_path / "cache", source, CROPS, encoder)
    reader = CacheReader(tmp_path / "cache", cache_key(source, CROPS, encoder))
    assert len(reader) == 6 and [reader.length(n) for n in range(6)] == [5, 5, 3, 3, 5, 5]
    without = _batches(ClipReader(source, CROPS), encoder)
    for batch, other in zip(_batches(reader, encoder), without, strict=True):
        assert batch.keys() == other.keys()
        assert ("context_color" in batch) == embeds and ("reference" in batch) != embeds
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)
    assert without[0]["color"].shape == (3, 3, 4, 6, 4)


def test_the_cache_of_something_else_is_refused(source, model, tmp_path):
    """If this fails, latents of another VAE or size are taken for these."""
    encoder = Encoder(model, False)
    folder = tmp_path / "cache"
    key = cache_key(source, CROPS, encoder)
    with pytest.raises(ValueError, match="no latent cache"):
        CacheReader(folder, key)
    write_cache(folder, source, CROPS, encoder)
    larger = CropConfig(**(vars(CROPS) | {"size": (16, 32)}))
    with pytest.raises(ValueError, match="another size; delete it"):
        write_cache(folder, source, larger, encoder)
    for name in ("vae", "version", "clips"):
        with pytest.raises(ValueError, match=f"another {name}; delete it"):
            CacheReader(folder, key | {name: "other"})


def test_an_interrupted_writer_goes_on(source, model, tmp_path, monkeypatch):
    """If this fails, hours of encoding are lost, or half a shard is trained on."""
    monkeypatch.setattr(caches, "SHARD", 2)
    encoder, folder = Encoder(model, False), tmp_path / "cache"
    encode, calls = caches._encode, []

    def stop(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(caches, "_encode", stop)
    with pytest.raises(KeyboardInterrupt):
        write_cache(folder, source, CROPS, encoder)
    key = cache_key(source, CROPS, encoder)
    with pytest.raises(ValueError, match="2 of 3 shards are missing"):
        CacheReader(folder, key)
    write_cache(folder, source, CROPS, encoder)
    assert len(calls) == 4 + 4  # what was whole is not encoded again
    _batches(CacheReader(folder, key), encoder)


def test_processes_share_the_writing(source, model, tmp_path, monkeypatch):
    """If this fails, hosts of a pod encode everything each, or leave shards out."""
    monkeypatch.setattr(caches, "SHARD", 2)
    encoder, folder = Encoder(model, False), tmp_path / "cache"
    for process in range(2):
        write_cache(folder, source, CROPS, encoder, process, 2)
        written = {path.name for path in folder.glob("shard-*")}
        assert (
            written
            == ({"shard-00000", "shard-00002"}, {f"shard-0000{n}" for n in range(3)})[process]
        )


def test_grey_latents_come_from_grey_pictures(model):
    """If this fails, color leaks into the condition that training sees."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    luma = np.rint(pixels @ [0.299, 0.587, 0.114]).astype(np.uint8)
    grey = np.repeat(luma[..., None], 3, axis=-1)
    encoder = Encoder(model, True)
    (color, condition), (color_of_grey, condition_of_grey) = map(encoder.latents, (pixels, grey))
    # Rounding to codes apart, the grey latents know nothing of the colors.
    assert np.abs(condition.astype(np.float32) - condition_of_grey).max() < 0.05
    assert np.abs(color.astype(np.float32) - color_of_grey).max() > 0.2
    contexts = encoder.contexts(pixels)
    assert contexts.shape == (4, 2, 1, 8)
    np.testing.assert_allclose(contexts[:, 1], encoder.contexts(grey)[:, 0], atol=0.05)


def test_a_cache_opens_without_its_clips(source, model, tmp_path):
    """If this fails, latents cannot be trained on where the clips are not, or another model's can.

    A changed VAE stands for another model.
    """
    encoder = Encoder(model, embeds=False)
    write_cache(tmp_path / "cache", source, CROPS, encoder)
    shutil.rmtree(tmp_path / "clips")
    reader = CacheReader(tmp_path / "cache", stored_key(tmp_path / "cache", encoder))
    assert len(reader) == 6 and len(_batches(reader, encoder)) == 4
    other = shutil.copytree(model.folder, tmp_path / "other")
    shutil.copy(other / "unet.safetensors", other / "vae.safetensors")
    with pytest.raises(ValueError, match="not those of .*other"):
        stored_key(tmp_path / "cache", Encoder(model._replace(folder=other), embeds=False))
    with pytest.raises(ValueError, match="no latent cache"):
        stored_key(tmp_path, encoder)
