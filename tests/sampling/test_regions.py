"""Regions with palettes of their own, and keyframes: masks, positions, records and colors."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw

from palette_vc_jax import Palette, cli, color_film, load_model, plan_film
from palette_vc_jax.commands import coloring, sample
from palette_vc_jax.sampling import keyframes
from palette_vc_jax.sampling.keyframes import (
    Keyframe,
    check_keyframes,
    parse_keyframe,
    track_keyframes,
)
from palette_vc_jax.sampling.regions import Region, RegionMaps, carry_regions, parse_region
from palette_vc_jax.sampling.tracking import carry, trace
from palette_vc_jax.video import color
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.resize import merge_rgb, resize
from tests import films, tiny
from tests.commands import command

HEIGHT, WIDTH = 192, 256
RED, BLUE = Palette.from_colors("#b01818"), Palette.from_colors("#1830b0")


def _scene(frames=12, step=6, seed=0):
    """Make lumas of a textured disk that moves to the right over texture, and the disk's masks."""
    rng = np.random.default_rng(seed)
    ground, disk = (
        np.kron(rng.uniform(low, high, (HEIGHT // 8, WIDTH // 8)), np.ones((8, 8)))
        for low, high in ((30, 120), (140, 250))
    )
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pictures, masks = [], []
    for frame in range(frames):
        shift = step * frame
        inside = (y - 96) ** 2 + (x - 60 - shift) ** 2 < 44**2
        pictures.append(np.where(inside, np.roll(disk, shift, axis=1), ground).astype(np.uint8))
        masks.append(inside.astype(np.float32))
    return pictures, masks


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Make a film of two shots: 12 frames of the disk, and 6 of another picture."""
    first, _ = _scene()
    second, _ = _scene(6, 0, seed=5)
    pictures = [*first, *(255 - picture for picture in second)]
    return films.write_film(tmp_path_factory.mktemp("film") / "in.mkv", pictures)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


# Outlines of what moves in two clips of 48 frames, drawn by hand on the first and the last frame.
OUTLINES = {
    "bulldog-run": (
        "204,105 207,93 216,83 226,77 253,77 245,50 262,52 280,43 304,43 322,58 327,70 325,95"
        " 315,102 326,133 336,158 328,168 316,150 304,127 288,136 291,150 276,156 258,143 230,130"
        " 233,142 215,142",
        "256,78 257,62 264,46 276,39 296,37 333,64 347,70 369,65 387,85 392,102 386,125 376,135"
        " 362,137 335,125 317,138 332,156 305,152 284,135 268,108 260,98",
    ),
    "woman-running": (
        "80,118 92,95 104,62 108,30 127,17 148,23 167,48 168,95 178,120 190,140 187,158 196,202"
        " 210,238 204,252 196,252 181,212 185,256 77,256 79,235 68,238 58,226 58,165 66,132",
        "76,150 92,122 104,102 113,65 131,45 154,53 170,90 184,116 187,145 203,175 216,220"
        " 214,256 60,256 48,222 62,180 68,160",
    ),
}


def _filled(outline, size):
    image = Image.new("L", size)
    points = [tuple(map(int, point.split(","))) for point in outline.split()]
    ImageDraw.Draw(image).polygon(points, fill=255)
    return np.asarray(image, np.float32) / 255.0


@pytest.mark.parametrize("name", OUTLINES)
def test_a_mask_follows_what_moves_in_real_footage(shared, name):
    """If this fails, a region loses a runner within two seconds."""
    film = open_film(shared / "footage" / "val" / name)
    size = (film.width, film.height)
    first, last = (_filled(outline, size) for outline in OUTLINES[name])
    maps = carry_regions(film, [(0, 48)], size[::-1], [Region(RED, first, 0)]).maps[0]
    assert _overlap(maps[47, ..., 0] / 255.0, last) > 0.7
    assert _overlap(first, last) < _overlap(maps[47, ..., 0] / 255.0, last) - 0.1


def _overlap(found, truth):
    found, truth = found > 0.5, truth > 0.5
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.parametrize("backward", [False, True])
def test_a_mask_follows_the_picture(backward):
    """If this fails, a region stays behind while what it colors moves on."""
    pictures, masks = _scene()
    order = slice(None, None, -1 if backward else 1)
    pictures, masks = np.stack(pictures)[order], masks[order]
    found = list(carry(pictures, masks[0]))
    assert len(found) == 12 and _overlap(masks[0], masks[-1]) < 0.2
    assert min(_overlap(a, b) for a, b in zip(found, masks, strict=True)) > 0.75


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (120, 8)])
def test_a_small_mask_does_not_fade(size):
    """If this fails, the region of a face in a wide shot is gone after a few frames."""
    (picture,), _ = _scene(1)
    grain = np.random.default_rng(0).normal(0.0, 4.0, (24, HEIGHT, WIDTH))
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[20 : 20 + size[0], 170 : 170 + size[1]] = 1.0
    *_, last = carry(np.clip(picture + grain, 0, 255).astype(np.uint8), mask)
    assert _overlap(last, mask) > 0.6


def test_masks_are_carried_both_ways_and_end_at_cuts(film):
    """If this fails, a region spreads to another shot, or is missing before its own frame."""
    plan_shots = [(0, 12), (12, 18)]
    _, masks = _scene()
    region = Region(RED, masks[6], 6)
    maps = carry_regions(open_film(film), plan_shots, (24, 32), [region])
    assert list(maps.maps) == [0] and maps.maps[0].shape == (12, 24, 32, 1)
    shares = maps.shares(plan_shots)
    np.testing.assert_allclose(shares.sum(-1), 1.0, atol=1e-6)
    assert (shares[12:, ..., 0] == 1.0).all()
    for frame in (0, 11):
        truth = masks[frame].reshape(24, 8, 32, 8).mean((1, 3))
        assert _overlap(shares[frame, ..., 1], truth) > 0.8
    # A run that begins with the second shot gets no maps of the first.
    assert (maps.shares([(12, 18)])[..., 0] == 1.0).all()


def test_the_last_region_is_in_front():
    """If this fails, overlapping regions mix their palettes."""
    both = np.zeros((1, 1, 3, 2), np.uint8)
    both[..., :2, 0] = 255
    both[..., 1:, 1] = 255
    shares = RegionMaps((RED, BLUE), {0: both}, (1, 3)).shares([(0, 1)])
    np.testing.assert_allclose(shares[0, 0], [[0, 1, 0], [0, 0, 1], [0, 0, 1]], atol=1e-6)


def _save(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path)
    return path


def test_masks_of_each_frame_are_used_as_they_are(film, tmp_path):
    """If this fails, masks that a user drew for each frame are shifted or changed by the flow."""
    for number in range(4):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[:, 64 * number :] = 255
        _save(tmp_path / f"{number}.png", mask)
    region = parse_region(f"{tmp_path}@10", open_film(film))
    assert region.frame == 10 and len(region.masks) == 4
    shares = carry_regions(open_film(film), [(0, 12), (12, 18)], (12, 16), [region]).shares(
        [(0, 12), (12, 18)]
    )
    covered = shares[:, 0, :, 1].sum(-1)
    np.testing.assert_allclose(covered, [0] * 10 + [16, 12, 8, 4] + [0] * 4, atol=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10,10,300,20", "outside of the film's 256x192 pixels"),
        ("10,10,0,20", "without width"),
        ("10,10,20,20@x", "a frame's number"),
        ("missing.png", "no such file"),
        ("{square}", "give an image of the whole frame"),
        ("{folder}", "no images in this folder"),
    ],
)
def test_masks_that_do_not_fit_are_refused(film, tmp_path, text, message):
    """If this fails, a wrong mask is a traceback, or colors another part of the picture."""
    (tmp_path / "folder").mkdir()
    square = _save(tmp_path / "square.png", np.zeros((50, 50), np.uint8))
    with pytest.raises(ValueError, match=message):
        parse_region(text.format(square=square, folder=tmp_path / "folder"), open_film(film))


@pytest.mark.parametrize("pixels", [0, 1])
def test_a_region_that_covers_nothing_is_named(film, pixels):
    """If this fails, a black mask, or one that is too small, has no effect and no message."""
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[50, 60 : 60 + pixels] = 1.0
    regions = [Region(RED, 1.0 - mask, 0, "rest"), Region(RED, mask, 0, "small.png")]
    with pytest.warns(UserWarning, match="covers nothing") as caught:
        carry_regions(open_film(film), [(0, 12), (12, 18)], (6, 8), regions)
    assert [str(one.message).split()[1] for one in caught] == ["small.png"]


def test_positions_beyond_the_film_are_refused(film):
    """If this fails, a region or keyframe after the film's end is ignored."""
    mask = np.ones((HEIGHT, WIDTH), np.float32)
    with pytest.raises(ValueError, match="the film has the frames 0 to 17"):
        carry_regions(open_film(film), [(0, 18)], (12, 16), [Region(RED, mask, 18)])
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    with pytest.raises(ValueError, match="give 0 to 17"):
        check_keyframes([Keyframe(18, image)], 18)
    with pytest.raises(ValueError, match="2 images for keyframe 3"):
        check_keyframes([Keyframe(3, image), Keyframe(4, image), Keyframe(3, image)], 18)


@pytest.mark.parametrize("flag", ["--dry_run", "--write_plan"])
def test_positions_beyond_the_film_are_refused_before_coloring(
    model, film, tmp_path, monkeypatch, capsys, flag
):
    """If this fails, a wrong position is found after the film's automatic palette is made."""
    image = _save(tmp_path / "key.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    monkeypatch.setattr(coloring, "auto_palettes", None)  # is not reached
    given = ["--input", film, "--checkpoint", model, "--output", tmp_path / "out.mkv", flag]
    given += [tmp_path / "plan.json"] if flag == "--write_plan" else []
    for steering in (["--region", "0,0,20,20@18=tomato"], ["--keyframe", f"18={image}"]):
        assert command(sample.main, *given, *steering) == 2
        assert "0 to 17." in capsys.readouterr().err


@pytest.mark.parametrize(("shape", "kind"), [((8, 8, 3), np.float32), ((8, 8), np.uint8)])
def test_images_of_other_types_are_no_keyframes(shape, kind):
    """If this fails, an image in [0, 1] is a black keyframe, and its shot turns gray."""
    with pytest.raises(ValueError, match="keyframe 3: .* uint8"):
        check_keyframes([Keyframe(3, np.ones(shape, kind))], 18)


def test_keyframes_are_read(film, tmp_path):
    """If this fails, a repaired frame goes to another place, or one of another film is taken."""
    image = _save(tmp_path / "a=b.png", np.full((48, 64, 3), 90, np.uint8))
    keyframe = parse_keyframe(f"0:00.5={image}", open_film(film))
    assert keyframe.frame == 12 and keyframe.image.shape == (48, 64, 3)
    for text in ("12", f"={image}", f"x={image}", f"12={tmp_path / 'missing.png'}"):
        with pytest.raises(ValueError):
            parse_keyframe(text, open_film(film))
    square = _save(tmp_path / "square.png", np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(ValueError, match="give an image of the whole frame"):
        parse_keyframe(f"12={square}", open_film(film))


def test_frames_take_from_the_keyframes_of_their_shot(film):
    """If this fails, a keyframe changes another shot, or another place of a frame that moves."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    shots, shape = [(0, 12), (12, 18)], (24, 32)
    cells = shape[0] * shape[1]
    keyframes = [Keyframe(9, image), Keyframe(3, image), Keyframe(14, image)]
    tracked = track_keyframes(open_film(film), shots, shape, keyframes)
    known = tracked.known(shots, np.zeros((3, *shape, 4), np.float32))
    assert known.frames.tolist() == [3, 9, 14]
    for number, frame in enumerate((3, 9, 14)):
        np.testing.assert_array_equal(
            known.source[frame, ..., 0].ravel(), number * cells + np.arange(cells)
        )
        assert (known.weight[frame] == (1.0, 0.0)).all()
    ground = known.weight[:, 2, 2]  # [N, 2], a pixel that does not move
    np.testing.assert_allclose(ground[:3], [[0, 1]] * 3, atol=1e-3)
    np.testing.assert_allclose(ground[4:9, 0], [5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6], atol=1e-3)
    np.testing.assert_allclose(ground.sum(-1), 1.0, atol=1e-3)
    # The disk's center is 6 pixels further to the right in each frame.
    row, column = 12, (60 + 6 * 5) // 8
    before = known.source[5, row, column, 0]
    assert abs(before % shape[1] - (column - 12 / 8)) <= 1 and before // shape[1] == row
    # In a run that begins with the second shot, the first keyframe belongs to that shot.
    part = tracked.known(shots[1:], np.zeros((1, *shape, 4), np.float32))
    assert part.frames.tolist() == [2] and part.source[2].min() == 0
    assert part.source.max() < cells


def test_pixels_that_the_flow_loses_follow_similar_ones():
    """If this fails, a keyframe does not reach what is blurred, hidden or quick."""
    rng = np.random.default_rng(0)

    def grain(level):
        return np.clip(level + rng.normal(0.0, 25.0, (64, 48)), 0, 255).astype(np.uint8)

    dark_left = np.concatenate([grain(60), grain(190)], axis=1)
    dark_right = np.concatenate([grain(190), grain(60)], axis=1)
    frames, shape = np.stack([dark_left, dark_right]), (8, 12)
    *_, (_, reliable) = trace(frames)
    lost = resize(reliable, *shape) < 0.5
    assert lost.mean() > 0.5
    *_, (pixels, trust) = keyframes._follow(frames, shape)
    first, second = (resize(frame, *shape) for frame in frames)
    assert np.abs(first.ravel()[pixels] - second)[lost].mean() < 10 < np.abs(first - second).mean()
    assert (trust[lost] > 0.8).all()


def test_a_pixel_stays_lost_in_latents_as_large_as_the_frames():
    """If this fails, later frames trust the place of a pixel that the flow has lost."""
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64)).astype(np.uint8)
    for (_, trust), (_, reliable) in zip(
        keyframes._follow(frames, (64, 64)), trace(frames), strict=True
    ):
        lost = reliable < keyframes.LOST
        np.testing.assert_array_equal(trust, np.where(lost, np.float32(0.85), reliable))
    assert lost.mean() > 0.9


def test_a_keyframe_keeps_the_films_luma():
    """If this fails, a repaired copy with another contrast changes the film's brightness."""
    rng = np.random.default_rng(0)
    gray = rng.uniform(0.3, 0.7, (24, 32)).astype(np.float32)
    image = np.full((48, 64, 3), (160, 90, 90), np.uint8)
    rgb = merge_rgb(gray, resize(image, *gray.shape) / 255.0, "bt601")
    np.testing.assert_allclose(color.rgb_to_luma(rgb, "bt601"), gray, atol=1e-3)
    expected = color.rgb_to_chroma(image[0, 0] / 255.0, "bt601")
    np.testing.assert_allclose(
        color.rgb_to_chroma(rgb, "bt601"), np.broadcast_to(expected, (24, 32, 2)), atol=1e-3
    )


def _chroma(path):
    with av.open(path) as container:
        frames = [frame.to_ndarray(format="yuv444p") for frame in container.decode(video=0)]
    return np.stack(frames)[:, 1:]


def test_one_region_over_everything_is_the_palette(model, film, tmp_path):
    """If this fails, a region gets other colors than the same palette for the whole film."""
    loaded = load_model(model)
    everything = Region(RED, np.ones((HEIGHT, WIDTH), np.float32))
    rest = Region(RED, np.ones((HEIGHT, WIDTH), np.float32), 12)
    color_film(film, tmp_path / "region.mkv", loaded, None, regions=[everything, rest])
    color_film(film, tmp_path / "palette.mkv", loaded, RED)
    np.testing.assert_array_equal(
        _chroma(tmp_path / "region.mkv"), _chroma(tmp_path / "palette.mkv")
    )


def test_the_command_takes_regions_and_keyframes(model, film, tmp_path, capsys):
    """If this fails, a region or keyframe of the command line is lost, or is not recorded."""
    image = _save(tmp_path / "key.png", np.full((HEIGHT, WIDTH, 3), (180, 60, 60), np.uint8))
    mask = _save(tmp_path / "mask.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    common = ["--input", film, "--checkpoint", model, "--palette", "khaki"]
    added = ["--region", "0,0,128,192@3=tomato", "--region", f"{mask}@0:00.6=teal"]
    added += ["--keyframe", f"14={image}"]

    def run(output, *more):
        arguments = [*common, "--output", tmp_path / output, *more]
        cli.run(lambda: sample.main([str(value) for value in arguments]))

    run("plain.mkv")
    run("added.mkv", *added)
    record = json.loads((tmp_path / "added.run.json").read_text())
    assert [(part["frame"], part["palette"][0]) for part in record["regions"]] == [
        (3, "#ff6347"),
        (14, "#008080"),
    ]
    (keyframe,) = record["keyframes"]
    assert (keyframe["frame"], keyframe["image"]) == (14, "key.png")
    different = (_chroma(tmp_path / "plain.mkv") != _chroma(tmp_path / "added.mkv")).any((1, 2, 3))
    assert different.all()  # each shot has a region
    capsys.readouterr()
    run("dry.mkv", *added, "--dry_run")
    assert json.loads(capsys.readouterr().out)["regions"] == record["regions"]
    for wrong in (["--region", "0,0,128,192"], ["--region", "=tomato"], ["--keyframe", "99"]):
        with pytest.raises(SystemExit) as stopped:
            run("wrong.mkv", *wrong)
        assert stopped.value.code == 2 and not (tmp_path / "wrong.mkv").exists()
    with pytest.raises(SystemExit) as stopped:
        run("mask.png", *added)  # would replace the mask
    assert stopped.value.code == 2 and np.asarray(Image.open(mask)).min() == 255


def test_regions_reach_the_plan_of_two_shots(model, film):
    """If this fails, this file's film has no cut, and its tests of cuts test nothing."""
    assert plan_film(film, load_model(model, ())).shots == [(0, 12), (12, 18)]
