"""The latent cache: the same batches as without, and never those of something else."""

import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palette_vc_jax.data import cache as caches
from palette_vc_jax.data import latents, loader
from palette_vc_jax.data.cache import CacheReader, cache_key, open_cache, stored_key, write_cache
from palette_vc_jax.data.crops import CropConfig
from palette_vc_jax.data.latents import Encoder
from palette_vc_jax.data.samples import ClipReader, SampleConfig
from palette_vc_jax.data.sources import open_clips
from palette_vc_jax.models.store import load_model
from tests import films, tiny

CROPS = CropConfig(
    frames=5, size=(16, 24), short_sides=(16, 20), crops=2, reference_every=2, hue_shift_rate=0.5
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
    config = SampleConfig(3, (1, 2), region_rate=0.5)
    stream = loader.batches(reader, config, CROPS.reference_every, loader.LoaderConfig(3))
    return [encoder.batch(next(stream)) for _ in range(count)]


@pytest.mark.parametrize(("embeds", "region_cell"), [(False, 0), (True, 0), (True, 4)])
def test_batches_are_the_same_with_and_without(
    source, model, tmp_path, monkeypatch, embeds, region_cell
):
    """If this fails, training from the cache differs from training without it."""
    monkeypatch.setattr(caches, "SHARD", 4)  # crops in two shards
    encoder, crops = Encoder(model, embeds), replace(CROPS, region_cell=region_cell)
    reader = open_cache(tmp_path / "cache", source, crops, encoder)
    assert len(reader) == 6 and [reader.length(n) for n in range(6)] == [5, 5, 3, 3, 5, 5]
    without = _batches(ClipReader(source, crops), encoder)
    assert ("regions" in without[0]) == bool(region_cell)
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
    write_cache(folder, key, source, CROPS, encoder)
    larger = CropConfig(**(vars(CROPS) | {"size": (16, 32)}))
    with pytest.raises(ValueError, match="another size; delete it"):
        open_cache(folder, source, larger, encoder)
    for name in ("vae", "version", "clips", "files", "precision"):
        with pytest.raises(ValueError, match=f"another {name}; delete it"):
            CacheReader(folder, key | {name: "other"})


def test_caches_from_before_regions_are_read(source, model, tmp_path):
    """If this fails, a new version encodes all clips again, or takes such a cache for regions."""
    encoder, folder = Encoder(model, False), tmp_path / "cache"
    open_cache(folder, source, CROPS, encoder)
    index = folder / caches.INDEX
    key = json.loads(index.read_text())
    del key["region_cell"]
    index.write_text(json.dumps(key))
    open_cache(folder, source, CROPS, encoder)
    with pytest.raises(ValueError, match="another region_cell; delete it"):
        open_cache(folder, source, replace(CROPS, region_cell=4), encoder)


def test_an_interrupted_writer_goes_on(source, model, tmp_path, monkeypatch):
    """If this fails, hours of encoding are lost, or half a shard is trained on."""
    monkeypatch.setattr(caches, "SHARD", 2)
    encoder, folder = Encoder(model, False), tmp_path / "cache"
    key = cache_key(source, CROPS, encoder)
    encode, calls = caches._encode, []

    def stop(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(caches, "_encode", stop)
    with pytest.raises(KeyboardInterrupt):
        write_cache(folder, key, source, CROPS, encoder)
    with pytest.raises(ValueError, match="2 of 3 shards are missing"):
        CacheReader(folder, key)
    write_cache(folder, key, source, CROPS, encoder)
    assert len(calls) == 4 + 4  # complete shards are not encoded again
    _batches(CacheReader(folder, key), encoder)


def test_processes_share_the_writing(source, model, tmp_path, monkeypatch):
    """If this fails, each host of a pod encodes all clips, or shards are missing."""
    monkeypatch.setattr(caches, "SHARD", 2)
    encoder, folder = Encoder(model, False), tmp_path / "cache"
    key = cache_key(source, CROPS, encoder)
    for process in range(2):
        write_cache(folder, key, source, CROPS, encoder, process, 2)
        written = {path.name for path in folder.glob("shard-*")}
        assert (
            written
            == ({"shard-00000", "shard-00002"}, {f"shard-0000{n}" for n in range(3)})[process]
        )


def test_gray_latents_come_from_gray_pictures(model):
    """If this fails, color leaks into the condition that training sees."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    luma = np.rint(pixels @ [0.299, 0.587, 0.114]).astype(np.uint8)
    gray = np.repeat(luma[..., None], 3, axis=-1)
    encoder = Encoder(model, True)
    (color, condition), (color_of_gray, condition_of_gray) = map(encoder.latents, (pixels, gray))
    # Apart from rounding to codes, the gray latents do not depend on the colors.
    assert np.abs(condition.astype(np.float32) - condition_of_gray).max() < 0.05
    assert np.abs(color.astype(np.float32) - color_of_gray).max() > 0.2
    contexts = encoder.contexts(pixels)
    assert contexts.shape == (4, 2, 1, 8)
    np.testing.assert_allclose(contexts[:, 1], encoder.contexts(gray)[:, 0], atol=0.05)


@pytest.mark.parametrize("text", ["[1, 2]", '{"version": 1', "\\x00", "3"])
def test_a_damaged_index_is_named(source, model, tmp_path, text):
    """If this fails, a cut file ends the run in a traceback."""
    encoder, folder = Encoder(model, False), tmp_path / "cache"
    open_cache(folder, source, CROPS, encoder)
    (folder / "index.json").write_text(text)
    with pytest.raises(ValueError, match="index.json: the index .* damaged; delete") as error:
        open_cache(folder, source, CROPS, encoder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "header", "fewer"])
def test_a_damaged_shard_is_named_and_written_anew(source, model, tmp_path, damage):
    """If this fails, hours pass before a damaged cache stops the run, in a traceback."""
    encoder, folder = Encoder(model, False), tmp_path / "cache"
    open_cache(folder, source, CROPS, encoder)
    shard = folder / "shard-00000"
    path = shard / "color.npy"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "fewer":
        np.save(path, np.load(path)[:-1])
    else:
        path.write_bytes({"cut": whole[:-1], "empty": b"", "header": b"x" + whole[1:]}[damage])
    with pytest.raises(ValueError, match=f"{shard}: this shard .* damaged .*; delete it") as error:
        open_cache(folder, source, CROPS, encoder)
    assert "\n" not in str(error.value)
    shutil.rmtree(shard)
    open_cache(folder, source, CROPS, encoder)
    assert path.read_bytes() == whole


def test_the_key_covers_the_clips_files_and_the_precision(source, model, tmp_path):
    """If this fails, training goes on with latents of frames that were edited or replaced."""
    encoder, folder = Encoder(model, False), tmp_path / "cache"
    open_cache(folder, source, CROPS, encoder)
    copy = shutil.copytree(tmp_path / "clips", tmp_path / "moved", copy_function=shutil.copyfile)
    open_cache(folder, open_clips("folders", copy), CROPS, encoder)
    with pytest.raises(ValueError, match="another precision; delete it"):
        open_cache(folder, source, CROPS, Encoder(model, False, jnp.bfloat16))
    frame = next((tmp_path / "clips" / "clip1").iterdir())
    whole = frame.read_bytes()
    frame.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="another files; .* files of 1 clips .* such as clip1"):
        open_cache(folder, source, CROPS, encoder)


def test_networks_are_hashed_once(source, model, tmp_path, monkeypatch):
    """If this fails, each start reads gigabytes of weights two to four times."""
    hashed = []
    monkeypatch.setattr(latents, "sha256", lambda path: hashed.append(path.name) or "hash")
    encoder = Encoder(model, True)
    for name in ("train", "held"):
        open_cache(tmp_path / name, source, CROPS, encoder)
    assert sorted(hashed) == ["image_encoder.safetensors", "vae.safetensors"]


def test_networks_are_placed_once_and_see_real_frames_only(source, model, tmp_path, monkeypatch):
    """If this fails, weights travel to the devices at every call, or padding is encoded."""
    encoder, encode, calls = Encoder(model, False), latents._encode, []
    monkeypatch.setattr(
        latents,
        "_encode",
        lambda params, *rest, **given: calls.append(params) or encode(params, *rest, **given),
    )
    open_cache(tmp_path / "cache", source, CROPS, encoder)
    assert len(calls) == 2 * (5 + 3 + 5)  # not 5 for each crop
    assert all(params is calls[0] for params in calls)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(calls[0]))
    assert not encoder._placed  # and they leave room for training


def test_bfloat16_latents_are_those_of_float32(model):
    """If this fails, latents encoded in the narrow type are too far from those in float32."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    exact = Encoder(model, True)
    narrow = Encoder(model, True, jnp.bfloat16)
    pairs = zip(exact.latents(pixels), narrow.latents(pixels), strict=True)
    for one, other in (*pairs, (exact.contexts(pixels), narrow.contexts(pixels))):
        assert one.dtype == other.dtype and one.shape == other.shape
        error = np.linalg.norm(one.astype(np.float32) - other) / np.linalg.norm(one.astype(float))
        assert 1e-5 < error < 0.05


def test_a_cache_opens_without_its_clips(source, model, tmp_path):
    """If this fails, latents cannot be trained on where the clips are not, or another model's can.

    A changed VAE stands for another model.
    """
    encoder = Encoder(model, embeds=False)
    open_cache(tmp_path / "cache", source, CROPS, encoder)
    shutil.rmtree(tmp_path / "clips")
    reader = CacheReader(tmp_path / "cache", stored_key(tmp_path / "cache", encoder))
    assert len(reader) == 6 and len(_batches(reader, encoder)) == 4
    other = shutil.copytree(model.folder, tmp_path / "other")
    shutil.copy(other / "unet.safetensors", other / "vae.safetensors")
    with pytest.raises(ValueError, match="cache with another vae; delete it"):
        stored_key(tmp_path / "cache", Encoder(model._replace(folder=other), embeds=False))
    with pytest.raises(ValueError, match="no latent cache"):
        stored_key(tmp_path, encoder)
