"""Films that are colored on several devices."""

import av
import numpy as np

from tests import films, tiny
from tests.multidevice.sampling import FILMS
from tests.multidevice.test_meshes import start


def test_devices_share_the_work_and_give_the_same_film(tmp_path):
    """If this fails, a film has other colors on another machine, devices have no work, or the
    network is compiled twice for guidance.
    """
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
                assert films[f"{film}/{count}/programs"] <= 1
                np.testing.assert_allclose(films[f"{film}/{count}"], alone, atol=1e-5)


def test_the_command_uses_all_devices(tmp_path):
    """If this fails, sample.py leaves devices idle, or cannot start where there are several."""
    model = tiny.write_model(tmp_path / "model", tiny.MICRO)
    source = films.write_film(tmp_path / "in.mkv", films.lumas(20), chroma=128)
    colored = []
    for flags in ([], ["--devices", 1]):
        output = tmp_path / f"out{len(flags)}.mkv"
        given = ["--input", source, "--output", output, "--checkpoint", model, *flags]
        process = start("palette_vc_jax", "sample", *given)
        error = process.communicate()[1]
        assert process.returncode == 0, error
        with av.open(str(output)) as film:
            frames = [frame.to_ndarray() for frame in film.decode(video=0)]
        colored.append(np.stack(frames).astype(int))
    assert colored[0].shape[0] == 20 and np.ptp(colored[0][:, 1:]) > 10  # [T, YUV, H, W]
    assert np.abs(colored[0] - colored[1]).max() <= 1
