"""What the trainers are fed: crops of clips, and windows of cached latents."""

import numpy as np
import pytest

from palette_vc_jax.data.clips import Crops, hold_out, list_clips, load_crops
from palette_vc_jax.data.latents import (
    LatentClips,
    encode_crops,
    load_latents,
    sample_windows,
    save_latents,
)
from palette_vc_jax.data.vary import vary
from palette_vc_jax.models.store import load_model
from palette_vc_jax.video.color import rgb_to_chroma, rgb_to_luma
from tests import films, tiny


@pytest.fixture
def root(tmp_path):
    """Make three clips of 6 frames whose red tells the clip and whose green tells the frame."""
    for clip in range(3):
        pictures = []
        for frame in range(6):
            picture = np.zeros((40, 60, 3), np.uint8)
            picture[...] = 60 * clip + 20, 30 * frame + 20, 128
            picture[:, :, 2] = np.arange(60) * 4
            pictures.append(picture)
        films.write_pictures(tmp_path / f"clip{clip}", pictures)
    return tmp_path


def test_held_out_clips_are_never_trained_on(root):
    """If this fails, validation measures what was learned by heart."""
    train, held = hold_out(list_clips(root), 3)
    assert [path.name for path in train] == ["clip0", "clip1"]
    assert [path.name for path in held] == ["clip2"]
    assert hold_out(list_clips(root), 0)[1] == []


def test_a_crop_is_one_rectangle_of_all_frames(root):
    """If this fails, the picture jumps between the frames of a training clip."""
    crops = load_crops(list_clips(root), 8, (16, 24), (20, 30), 2, seed=0)
    assert crops.pixels.shape == (6, 8, 16, 24, 3) and (crops.lengths == 6).all()
    blue = crops.pixels[..., 2].astype(int)
    assert np.abs(blue - blue[:, :1]).max() <= 1  # the same columns in every frame
    assert (np.diff(blue[0, 0, 8]) >= 0).all() and (np.diff(blue[1, 0, 8]) <= 0).all()  # mirrored
    green = crops.pixels[:, :, 8, 12, 1].astype(int)
    np.testing.assert_array_equal(green[:, 5], green[:, 7])  # past the end the last is repeated
    assert (np.diff(green[:, :6]) > 0).all()


def test_crops_say_whether_their_hues_are_turned(root):
    """If this fails, the palette is dropped where only it tells the hues."""
    clips = list_clips(root)
    given = 3, (16, 24), (20, 30), 8
    assert not load_crops(clips, *given, seed=0).turned.any()
    assert not load_crops(clips, *given, seed=0, turned=0.0).turned.any()
    assert load_crops(clips, *given, seed=0, turned=1.0).turned.all()


def test_vary_turns_hues_at_fixed_luma():
    """If this fails, the hue cannot be told from the palette alone, or all frames differ."""
    frames = np.full((2, 4, 4, 3), (150, 120, 100), np.uint8)
    angles = []
    for seed in range(60):
        plain = vary(frames, False, np.random.default_rng(seed))
        turned = vary(frames, True, np.random.default_rng(seed))
        assert np.ptp(turned.reshape(-1, 3), axis=0).max() == 0  # one variation for the crop
        lumas = [rgb_to_luma(f[0, 0, 0].astype(np.float32), "bt601") for f in (plain, turned)]
        assert abs(lumas[0] - lumas[1]) < 1.0
        blue, red = rgb_to_chroma(turned[0, 0, 0].astype(np.float32), "bt601")
        angles.append(np.arctan2(red, blue))
        own = rgb_to_chroma(plain[0, 0, 0].astype(np.float32), "bt601")
        assert own[0] < 0 < own[1]  # an unturned crop keeps its hue
    counts, _ = np.histogram(angles, bins=4, range=(-np.pi, np.pi))
    assert counts.min() >= 5  # every quarter of the hues is reached


def test_no_clips_is_said_in_one_line(tmp_path):
    """If this fails, a wrong path ends in an error about empty arrays."""
    with pytest.raises(ValueError, match="no clips found"):
        list_clips(tmp_path / "nowhere")


def test_windows_are_frames_of_one_clip_in_step(tmp_path):
    """If this fails, windows mix clips, run past a clip's end, or lose color against grey."""
    lengths = np.array([9, 4, 12])
    index = np.arange(3)[:, None] * 100 + np.arange(12)
    latents = np.broadcast_to(index[..., None, None, None], (3, 12, 2, 2, 4)).astype(np.float16)
    references = np.broadcast_to(np.arange(3)[:, None, None, None, None], (3, 2, 4, 4, 3))
    palettes = np.broadcast_to(np.arange(3)[:, None, None], (3, 2, 15)).astype(np.float32)
    turned = np.array([False, True, False])
    clips = LatentClips(latents, -latents, references.astype(np.uint8), palettes, lengths, turned)
    save_latents(tmp_path / "clips.npz", clips)
    clips = load_latents(tmp_path / "clips.npz")
    seen = set()
    for seed in range(40):
        batch = sample_windows(clips, 4, (1, 2, 3), 5, np.random.default_rng(seed))
        frames = batch["color"][:, :, 0, 0, 0]
        np.testing.assert_array_equal(batch["grey"][:, :, 0, 0, 0], -frames)
        clip = frames[:, 0].astype(int) // 100
        np.testing.assert_array_equal(batch["palette"][:, 0], clip)
        np.testing.assert_array_equal(batch["turned"], clip == 1)
        np.testing.assert_allclose(batch["reference"][:, 0, 0, 0], clip / 127.5 - 1.0, atol=1e-6)
        steps = np.diff(frames, axis=1)
        assert (steps == steps[:, :1]).all() and set(np.abs(steps[:, 0])) <= {1, 2, 3}
        local = frames - 100 * clip[:, None]
        assert (local >= 0).all() and (local < lengths[clip][:, None]).all()
        seen |= set(steps[:, 0])
    assert seen == {1, 2, 3, -1, -2, -3}


def test_grey_latents_come_from_grey_pictures(tmp_path):
    """If this fails, color leaks into the condition that training sees."""
    model = load_model(tiny.write_model(tmp_path), networks=("vae",))
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1, 4, 16, 16, 3)).astype(np.uint8)
    luma = np.rint(pixels @ [0.299, 0.587, 0.114]).astype(np.uint8)
    grey = np.repeat(luma[..., None], 3, axis=-1)
    one, other = (
        encode_crops(model, Crops(["a"], p, np.array([4]), np.array([False])), reference_every=2)
        for p in (pixels, grey)
    )
    # Rounding to codes apart, the grey latents know nothing of the colors.
    assert np.abs(one.grey.astype(np.float32) - other.grey).max() < 0.05
    assert np.abs(one.color.astype(np.float32) - other.color).max() > 0.2
    assert one.references.shape == (1, 2, 16, 16, 3) and one.palettes.shape == (1, 2, 15)
