"""`palette-vc trim`: colors change, and nothing else."""

import json
import warnings

import av
import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.commands import main
from palette_vc_jax.video.chroma import read_colored, upsample
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.resize import subsample_chroma
from tests import films
from tests.commands import command
from tests.video.test_shots import WIDE

EVEN = np.float32([0.663, -0.337, 0.0])  # a change of R - G by 1 that keeps Y' of BT.601


def trim(source, output, *flags):
    return command(main.main, "trim", "--input", source, "--output", output, *flags)


def _planes(path):
    """Return the planes of each frame of a 4:4:4 film, `[3, H, W]`."""
    with av.open(str(path)) as container:
        return [
            np.stack([_codes(frame, plane) for plane in frame.planes])
            for frame in container.decode(video=0)
        ]


def _codes(frame, plane):
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    rows = np.frombuffer(plane, kind).reshape(frame.height, -1)
    return rows[:, : frame.width].copy()


def _times(path):
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("pix_fmt", "depth"), [("yuv444p", 8), ("yuv420p", 8), ("yuv422p10le", 10)]
)
def test_saturation_scales_chroma_and_keeps_the_rest(tmp_path, capsys, pix_fmt, depth):
    """If this fails, a trim changes luma, sound or times, or reads chroma at a wrong scale."""
    scale = 2 ** (depth - 8)
    pictures = [np.clip(p, 60 * scale, 180 * scale) for p in films.lumas(6, depth=depth)]
    source = films.write_film(
        tmp_path / "in.mkv", pictures, pix_fmt, chroma=118 * scale, sound="ac3",
        times=[0, 40, 80, 160, 200, 240], time_base=films.Fraction(1, 1000),
    )  # fmt: skip
    assert trim(source, tmp_path / "out.mkv", "--saturation", 1.5) == 0
    assert "settings:" in capsys.readouterr().out
    found = _planes(tmp_path / "out.mkv")
    for before, after in zip(pictures, found, strict=True):
        np.testing.assert_array_equal(after[0], before)
        np.testing.assert_array_equal(after[1:], 113 * scale)
    assert films.sound_packets(tmp_path / "out.mkv") == films.sound_packets(source)
    np.testing.assert_allclose(_times(tmp_path / "out.mkv"), _times(source))
    record = json.loads((tmp_path / "out.trim.json").read_text())
    assert record["trim"]["saturation"] == 1.5 and record["output"] == "out.mkv"


def test_strength_and_neutral_areas(tmp_path):
    """If this fails, colors cannot be muted, or bars cannot be made gray afterwards."""
    picture = np.full((48, 64), 120, np.uint8)
    picture[:12] = 20
    source = films.write_film(tmp_path / "in.mkv", [picture] * 2, "yuv444p", chroma=140)
    assert trim(source, tmp_path / "gray.mkv", "--strength", 0) == 0
    np.testing.assert_array_equal(_planes(tmp_path / "gray.mkv")[0][1:], 128)
    flags = ["--strength", 0.5, "--neutral_dark", 0.12]
    assert trim(source, tmp_path / "bars.mkv", *flags) == 0
    chroma = _planes(tmp_path / "bars.mkv")[0][1:]
    np.testing.assert_array_equal(chroma[:, :11], 128)
    np.testing.assert_array_equal(chroma[:, 13:], 134)


@pytest.mark.parametrize(
    ("pix_fmt", "chroma", "gray"),
    [("yuv420p", 128, True), ("gray", None, True), ("rgb24", None, True), ("yuv420p", 129, False)],
)
@pytest.mark.parametrize("flags", [("--saturation", 2.0), ("--strength", 0.5)])
def test_a_gray_film_is_told(tmp_path, pix_fmt, chroma, gray, flags):
    """If this fails, a trim of the film that was not colored does nothing, and nothing says so."""
    pictures = films.lumas(3, full_range=pix_fmt != "yuv420p")
    if pix_fmt == "rgb24":
        source = films.write_pictures(tmp_path / "in", [np.stack([p] * 3, -1) for p in pictures])
    else:
        source = films.write_film(tmp_path / "in.mkv", pictures, pix_fmt, chroma=chroma or 128)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert trim(source, tmp_path / "out.mkv", *flags) == 0
    assert len(said) == gray and all("no color to change" in str(one.message) for one in said)
    assert (tmp_path / "out.mkv").exists()


def test_smoothing_calms_flicker_and_stops_at_cuts(tmp_path):
    """If this fails, colors still flicker, or flow over a cut or over things that move."""
    frames = []
    for index in range(24):
        gray = 0.3 + 0.4 * (WIDE[:, :64] if index < 12 else WIDE[:, 300:364])
        red = (0.2 if index < 12 else -0.1) + 0.05 * (-1) ** index
        frames.append(np.rint(255 * (gray[..., None] + red * EVEN)).astype(np.uint8))
    folder = films.write_pictures(tmp_path / "in", frames)
    assert trim(folder, tmp_path / "out", "--smooth", 5) == 0
    paths = sorted((tmp_path / "out").glob("*.png"))
    found = np.stack([np.asarray(Image.open(path), np.float32) for path in paths])
    red = (found[..., 0] - found[..., 1]).mean((1, 2)) / 255.0
    before = np.stack(frames).astype(np.float32)
    flicker = np.abs(np.diff((before[..., 0] - before[..., 1]).mean((1, 2)) / 255.0))
    steps = np.abs(np.diff(red))
    assert flicker[2:9].min() > 0.09 and steps[2:9].max() < 0.03
    np.testing.assert_allclose(red[2:10], 0.2, atol=0.025)
    np.testing.assert_allclose(red[14:22], -0.1, atol=0.025)
    assert abs(red[11] - 0.2) < 0.06 and abs(red[12] + 0.1) < 0.06


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ([], "nothing to change"),
        (["--saturation", "-1"], "saturation -1"),
        (["--saturation", "nan"], "saturation nan"),
        (["--strength", "2"], "strength 2"),
        (["--smooth", "4"], "odd number"),
        (["--smooth", "99"], "from 1 to 25"),
        (["--neutral_dark", "1"], "dark < bright"),
    ],
)
def test_wrong_values_are_refused_in_one_line(tmp_path, capsys, flags, word):
    """If this fails, a mistyped trim is a traceback, or leaves a partial film."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    assert trim(source, tmp_path / "out.mkv", *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_the_users_files_are_kept(tmp_path, capsys):
    """If this fails, a trim replaces its input, or a file that it did not write."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    before = source.read_bytes()
    assert trim(source, source, "--strength", 0.5) == 2
    (tmp_path / "out.trim.json").write_text("{}")
    assert trim(source, tmp_path / "out.mkv", "--strength", 0.5) == 2
    assert trim(tmp_path / "none.mkv", tmp_path / "out.mkv", "--strength", 0.5) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
    assert source.read_bytes() == before and not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 2)])
def test_enlarging_is_the_inverse_of_shrinking(rows, columns, interlaced):
    """If this fails, each trim moves or blurs the colors of a subsampled film."""
    y, x = np.mgrid[:24, :20].astype(np.float32)
    smooth = np.stack([0.01 * x - 0.004 * y, np.full_like(x, 0.1)], axis=-1)
    large = upsample(smooth, rows * 24, columns * 20, interlaced)
    again = subsample_chroma(large, rows, columns, interlaced)
    np.testing.assert_allclose(again[3:-3, 2:-2], smooth[3:-3, 2:-2], atol=1e-4)


def test_gray_and_packed_formats_are_read(tmp_path):
    """If this fails, a trim of some format fails, or gives colors to a gray film."""
    pictures = films.lumas(2)
    for pix_fmt, codec, expected in (("gray", "ffv1", 0.0), ("yuyv422", "rawvideo", None)):
        path = tmp_path / f"{pix_fmt}.{'mkv' if codec == 'ffv1' else 'avi'}"
        if pix_fmt == "gray":
            films.write_film(path, pictures, pix_fmt, codec)
        else:
            color = [np.dstack([picture] * 3) for picture in pictures]
            films.write_film(path, color, pix_fmt, codec)
        for frame, chroma in read_colored(open_film(path)):
            assert chroma.shape == (*frame.luma.shape, 2)
            assert np.abs(chroma).max() < 0.02 if expected is None else not chroma.any()


def test_a_finished_film_is_replaced_only_where_that_is_asked_for(tmp_path, capsys):
    """If this fails, a second trim destroys the first one, or no trim can be repeated."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    assert trim(source, tmp_path / "out.mkv", "--saturation", 1.5) == 0
    before = (tmp_path / "out.mkv").read_bytes()
    assert trim(source, tmp_path / "out.mkv", "--saturation", 0.5) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "out.mkv").read_bytes() == before
    assert trim(source, tmp_path / "out.mkv", "--saturation", 0.5, "--overwrite") == 0
    assert (tmp_path / "out.mkv").read_bytes() != before


def test_a_trim_goes_through_a_pipe(tmp_path, monkeypatch, capsysbinary):
    """If this fails, `--output -` of a trim fills a folder named `-` with images."""
    monkeypatch.chdir(tmp_path)
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    assert trim(source, "-", "--saturation", 1.5) == 0
    assert capsysbinary.readouterr().out.startswith(b"YUV4MPEG2 ")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
