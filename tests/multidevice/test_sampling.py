"""Films that are colored on several devices."""

import numpy as np

from tests import tiny
from tests.multidevice.sampling import FILMS
from tests.multidevice.test_meshes import start


def test_devices_share_the_work_and_give_the_same_film(tmp_path):
    """If this fails, a film has other colors on another machine, or devices have no work."""
    model, out = tiny.write_model(tmp_path / "model", tiny.MICRO), tmp_path / "films.npz"
    process = start("tests.multidevice.sampling", model, out)
    error = process.communicate()[1]
    assert process.returncode == 0, error
    with np.load(out) as films:
        meshes = [[tuple(films[f"{film}/{count}/mesh"]) for count in (2, 8)] for film in range(2)]
        assert meshes == [[(2, 1), (8, 1)], [(2, 1), (2, 4)]]
        for film, shots in enumerate(FILMS):
            alone = films[f"{film}/1"]
            assert alone.shape == (shots[-1][1], 16, 24, 3) and alone.std() > 0.01
            for count in (2, 8):
                np.testing.assert_allclose(films[f"{film}/{count}"], alone, atol=1e-5)
