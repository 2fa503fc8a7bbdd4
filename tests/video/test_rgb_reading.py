"""Whole pictures in RGB, as training and metrics see them."""

import films
import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.rgb import count_frames, read_rgb, shown_size


def colored(count: int = 5) -> list[np.ndarray]:
    base = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    return [np.roll(base, index, axis=1) for index in range(count)]


def test_films_and_folders_give_the_same_pictures(tmp_path):
    """If this fails, a film's frames differ from those that it was made of, or are miscounted."""
    pictures = colored()
    film = open_film(films.write_film(tmp_path / "a.mkv", pictures, "bgr0"))
    folder = tmp_path / "b"
    folder.mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index}.png")
    for source in (film, open_film(folder)):
        assert count_frames(source) == 5 and shown_size(source) == (24, 40)
        np.testing.assert_array_equal(np.stack(list(read_rgb(source))), np.stack(pictures))


def test_a_turned_film_is_read_upright(tmp_path):
    """If this fails, a phone's film is compared lying on its side."""
    lumas = films.lumas(3)
    path = films.write_film(tmp_path / "a.mp4", lumas, codec="libx264", turn=90, chroma=128)
    film = open_film(path)
    first = next(read_rgb(film))
    assert first.shape[:2] == shown_size(film) == lumas[0].shape[::-1]


def test_matrix_and_range_are_the_films_own(tmp_path):
    """If this fails, greens shift between films that are tagged differently."""
    flat = [np.full((16, 16), 81, np.uint8)] * 2
    path = films.write_film(tmp_path / "a.mkv", flat, "yuv444p", chroma=110, tags=(1, 1, 1, 1))
    red, green, blue = next(read_rgb(open_film(path)))[8, 8].astype(float)
    y, c = 255.0 / 219.0 * (81 - 16), 255.0 / 224.0 * (110 - 128)
    assert red == pytest.approx(y + 1.5748 * c, abs=1.5)
    assert green == pytest.approx(y - (0.1873 + 0.4681) * c, abs=1.5)
    assert blue == pytest.approx(y + 1.8556 * c, abs=1.5)


def test_subsampled_chroma_is_read_without_bias(tmp_path):
    """If this fails, chroma is not interpolated, or codes are truncated and images get darker."""
    rows, columns = np.mgrid[:96, :128] / 40.0
    waves = [np.sin(3 * columns + k) * np.cos(2 * rows - k) for k in range(3)]
    picture = np.rint(127.5 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "0.jpg", quality=98, subsampling="4:2:0")
    found = next(read_rgb(open_film(tmp_path))).astype(float)
    with Image.open(tmp_path / "0.jpg") as file:
        expected = np.asarray(file.convert("RGB"), float)
    assert np.abs((found - expected).mean(axis=(0, 1))).max() < 0.2
    assert np.sqrt(np.mean((found - expected) ** 2)) < 1.5


def test_a_picture_that_is_cut_short_is_refused(tmp_path):
    """If this fails, the rest of the film is measured as gray."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "0.jpg", quality=90)
    whole = (tmp_path / "0.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="1.jpg"):
        list(read_rgb(open_film(tmp_path)))


def test_a_folder_of_two_sizes_is_refused(tmp_path):
    """If this fails, pictures of two sizes are stacked, which ends in a traceback."""
    for index, picture in enumerate(colored(2)):
        Image.fromarray(picture[: 24 - index]).save(tmp_path / f"{index}.png")
    with pytest.raises(ValueError, match="40x23 pixels, the first 40x24"):
        list(read_rgb(open_film(tmp_path)))
