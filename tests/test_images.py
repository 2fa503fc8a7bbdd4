"""Image files: which formats are read, and that damaged or hostile ones are refused in one line."""

import io

import numpy as np
import pytest
from PIL import Image

from palette_vc_jax.images import FORMATS, read_image

Image.init()
PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


@pytest.mark.parametrize("form", [form for form in FORMATS if form in Image.SAVE])
def test_formats_that_are_read(tmp_path, form):
    """If this fails, images of a usual format are refused."""
    path = tmp_path / "image"
    Image.fromarray(PICTURE).save(path, form, **({"lossless": True} if form == "WEBP" else {}))
    assert read_image(path).shape == PICTURE.shape


def test_an_image_that_is_a_program_is_not_run(tmp_path, monkeypatch):
    """If this fails, Pillow hands a file of somebody else to Ghostscript."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: pytest.fail("was run"))
    path = tmp_path / "image.png"
    Image.fromarray(PICTURE).save(path, "EPS")
    with pytest.raises(ValueError, match="image.png: cannot be read"):
        read_image(path)


def test_damage_of_every_kind_is_one_error(tmp_path):
    """If this fails, a damaged image ends in a traceback."""
    rng = np.random.default_rng(0)
    for form in set(FORMATS) & set(Image.SAVE):
        file = io.BytesIO()
        Image.fromarray(PICTURE).save(file, form)
        for _ in range(20):
            data = bytearray(file.getvalue())
            for place in rng.integers(0, len(data), 3):
                data[place] = rng.integers(256)
            path = tmp_path / "image"
            path.write_bytes(data[: rng.integers(1, len(data) + 1)])
            try:
                read_image(path)
            except ValueError as error:
                assert "\n" not in str(error)
