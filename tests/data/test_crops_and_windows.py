"""What the trainers are fed: crops of clips, windows of crops, and their order."""

import itertools

import numpy as np
import pytest

from palette_vc_jax.data import crops, loader
from palette_vc_jax.data.augment import vary_colors
from palette_vc_jax.data.crops import CropConfig, draw_crop, load_crops, read_crop
from palette_vc_jax.data.samples import ClipReader, SampleConfig, Window, draw_window, read_sample
from palette_vc_jax.data.sources import hold_out, list_clips, open_clips
from palette_vc_jax.video.color import rgb_to_chroma, rgb_to_luma
from tests import films

CROPS = CropConfig(
    frames=8, size=(16, 24), short_sides=(20, 30), crops=2, reference_every=2, mirrored=True, seed=0
)


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


@pytest.fixture
def source(root):
    return open_clips("folders", root)


def test_held_out_clips_are_never_trained_on(source):
    """If this fails, validation measures what was learned by heart."""
    train, held = hold_out(source, 3)
    assert [train.name(n) for n in range(len(train))] == ["clip0", "clip1"]
    assert [held.name(n) for n in range(len(held))] == ["clip2"]
    red = held.read(0, [0])[0][0, 0, 0]
    assert abs(int(red) - 140) < 3
    assert len(hold_out(source, 0)[1]) == 0


def test_a_crop_is_one_rectangle_of_all_frames(source):
    """If this fails, the picture jumps between the frames of a training clip."""
    pixels, lengths = load_crops(source, CROPS)
    assert pixels.shape == (6, 8, 16, 24, 3) and (lengths == 6).all()
    blue = pixels[..., 2].astype(int)
    assert np.abs(blue - blue[:, :1]).max() <= 1  # the same columns in every frame
    assert (np.diff(blue[0, 0, 8]) >= 0).all() and (np.diff(blue[1, 0, 8]) <= 0).all()  # mirrored
    green = pixels[:, :, 8, 12, 1].astype(int)
    np.testing.assert_array_equal(green[:, 5], green[:, 7])  # past the end the last is repeated
    assert (np.diff(green[:, :6]) > 0).all()


def test_a_crop_lies_within_its_picture():
    """If this fails, Pillow refuses a box that rounding has moved out of a picture."""
    config = CropConfig(1, (144, 192), (144, 170), 1, 1)
    for height, width in itertools.product(range(150, 300, 3), (160, 214, 240, 284)):
        for place in ((0.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.37, 0.9, 0.1)):
            left, top, right, bottom = crops._box((height, width), place, config)
            assert 0.0 <= left < right <= width and 0.0 <= top < bottom <= height


def test_crops_are_mirrored_and_windows_reversed_only_where_asked(source):
    """If this fails, the paper's training has augmentations that the paper does not have."""
    plain = CropConfig(**(vars(CROPS) | {"mirrored": False}))
    drawn = [[draw_crop(source, n, config).mirrored for n in range(6)] for config in (CROPS, plain)]
    assert drawn == [[False, True] * 3, [False] * 6]
    rng = np.random.default_rng(0)
    windows = [draw_window(9, 1, SampleConfig(4), rng) for _ in range(50)]
    assert all((np.diff(window.frames) == 1).all() for window in windows)


def test_noise_seeds_belong_to_the_sample(source):
    """If this fails, noise on gray frames repeats, or differs between a run and its resumption."""
    reader, config = ClipReader(source, CROPS), SampleConfig(3, noisy=True)
    seeds = [read_sample(reader, 0, number, config, 2)["noise_seed"] for number in (5, 6, 5)]
    assert seeds[0].shape == (3, 2) and seeds[0].dtype == np.uint32
    np.testing.assert_array_equal(seeds[0], seeds[2])
    assert len({tuple(seed) for frames in seeds[:2] for seed in frames}) == 6
    plain = read_sample(reader, 0, 5, SampleConfig(3), 2)
    assert "noise_seed" not in plain
    noisy = read_sample(reader, 0, 5, config, 2)
    np.testing.assert_array_equal(noisy["frames"], plain["frames"])  # the window is the same


def test_frames_of_a_crop_are_the_same_whichever_are_read(source):
    """If this fails, latents that are cached are not those of a run without a cache."""
    config = CropConfig(**(vars(CROPS) | {"hue_shift_rate": 0.5}))
    for number in range(6):
        crop = draw_crop(source, number, config)
        assert crop == draw_crop(source, number, config)
        whole = read_crop(source, crop, range(6), config)
        np.testing.assert_array_equal(read_crop(source, crop, [4, 1], config), whole[[4, 1]])


def test_crops_say_whether_their_hues_are_shifted(source):
    """If this fails, the palette is dropped where only it tells the hues."""
    for share, shifted in ((None, 0), (0.0, 0), (1.0, 6)):
        config = CropConfig(**(vars(CROPS) | {"hue_shift_rate": share}))
        assert sum(draw_crop(source, n, config).hue_shifted for n in range(6)) == shifted


def test_hues_are_shifted_at_fixed_luma():
    """If this fails, the hue cannot be told from the palette alone, or all frames differ."""
    frames = np.full((2, 4, 4, 3), (150, 120, 100), np.uint8)
    angles = []
    for seed in range(60):
        plain = vary_colors(frames, False, np.random.default_rng(seed))
        shifted = vary_colors(frames, True, np.random.default_rng(seed))
        assert np.ptp(shifted.reshape(-1, 3), axis=0).max() == 0  # one variation for the crop
        lumas = [rgb_to_luma(f[0, 0, 0].astype(np.float32), "bt601") for f in (plain, shifted)]
        assert abs(lumas[0] - lumas[1]) < 1.0
        blue, red = rgb_to_chroma(shifted[0, 0, 0].astype(np.float32), "bt601")
        angles.append(np.arctan2(red, blue))
        own = rgb_to_chroma(plain[0, 0, 0].astype(np.float32), "bt601")
        assert own[0] < 0 < own[1]  # a crop without a shift keeps its hue
    counts, _ = np.histogram(angles, bins=4, range=(-np.pi, np.pi))
    assert counts.min() >= 5  # every quarter of the hues is reached


def test_no_clips_is_said_in_one_line(tmp_path):
    """If this fails, a wrong path ends in an error about empty arrays."""
    with pytest.raises(ValueError, match="no clips found"):
        list_clips(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no video files found"):
        open_clips("videos", tmp_path)
    with pytest.raises(ValueError, match="no prepared davis"):
        open_clips("tfds", tmp_path)
    with pytest.raises(ValueError, match="use 'folders', 'videos', 'photos' or 'tfds'"):
        open_clips("zip", tmp_path)


def test_windows_are_frames_in_step_within_the_crop():
    """If this fails, windows run past a clip's end, or never run backward."""
    config = SampleConfig(4, (1, 2, 3), reversed=True)
    seen = set()
    for seed in range(200):
        length = (4, 9, 12)[seed % 3]
        window = draw_window(length, 3, config, np.random.default_rng(seed))
        steps = set(np.diff(window.frames))
        assert len(steps) == 1 and window.frames.min() >= 0 and window.frames.max() < length
        assert 0 <= window.reference < 3
        seen |= {(length, int(step)) for step in steps}
    assert {step for length, step in seen if length == 12} == {1, 2, 3, -1, -2, -3}
    assert {step for length, step in seen if length == 4} == {1, -1}  # the others do not fit
    with pytest.raises(ValueError, match="3 frames where a window has 4; lower data.window"):
        draw_window(3, 1, config, np.random.default_rng(0))


def test_a_sample_is_a_window_with_the_palette_of_its_own_clip(source):
    """If this fails, palettes tell the colors of other clips."""
    reader = ClipReader(source, CROPS)
    for crop in range(6):
        sample = reader.read(crop, Window(np.array([3, 2, 1]), 2))
        red = 60 * (crop // 2) + 20
        assert np.abs(sample["frames"][..., 0].astype(int) - red).max() < 5
        green = sample["frames"][:, 8, 12, 1].astype(int)
        np.testing.assert_allclose(green, [110, 80, 50], atol=5)
        assert abs(int(sample["reference"][8, 12, 1]) - 140) < 5  # frame 4, the third reference
        np.testing.assert_allclose(sample["palette"][::3], 2 * red / 255 - 1, atol=0.05)


def test_a_clip_shorter_than_a_window_is_named(source):
    """If this fails, one short clip among thousands has to be found by hand."""
    reader = ClipReader(source, CROPS)
    with pytest.raises(ValueError, match=f"clip {source.name(1)}: .* a window has 100"):
        read_sample(reader, 2, 0, SampleConfig(100), 2)


def _stream(source, first=0, **given):
    options = loader.LoaderConfig(**({"batch_size": 4} | given))
    return loader.batches(ClipReader(source, CROPS), SampleConfig(3), 2, options, first)


def test_the_order_does_not_depend_on_who_reads(source):
    """If this fails, a resumed run, or one on more hosts, sees other data."""
    stream = _stream(source)
    batches = [next(stream) for _ in range(5)]
    for name in batches[0]:
        later = next(_stream(source, first=12))[name]
        np.testing.assert_array_equal(later, batches[3][name])
        parts = [_stream(source, rows=rows) for rows in ((0, 1), (2, 3))]
        for batch in batches[:2]:
            joined = np.concatenate([next(part)[name] for part in parts])
            np.testing.assert_array_equal(joined, batch[name])
    # Every crop is seen once an epoch, and epochs differ.
    reds = np.concatenate([b["frames"][:, 0, 8, 12, 0] for b in batches[:3]])
    assert sorted(np.rint(reds / 60)) == [0] * 4 + [1] * 4 + [2] * 4


def test_workers_give_the_same_batches(source):
    """If this fails, the number of worker processes changes what is learned."""
    stream, workers = _stream(source), _stream(source, workers=1)
    for _ in range(3):
        batch, other = next(stream), next(workers)
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_named_in_one_line(root, workers):
    """If this fails, one bad file among thousands is a traceback that names none."""
    broken = root / "clip1" / sorted(p.name for p in (root / "clip1").iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(ValueError, match=broken.name):
        stream = _stream(open_clips("folders", root), workers=workers)
        for _ in range(12):
            next(stream)
