"""Color films on one, two and eight devices: `python -m tests.multidevice.sampling MODEL OUT`."""

import sys
from pathlib import Path

import numpy as np

from palette_vc_jax import Palette, default_settings, load_model
from palette_vc_jax.sampling.colorize import colorize, networks_for
from palette_vc_jax.sampling.sampler import velocity
from palette_vc_jax.sampling.shot_settings import ShotSettings

DEVICES = (1, 2, 8)
# Windows that do not divide over the devices and a shot shorter than a window; fewer windows than
# eight devices, so that frames are split.
FILMS = ([(0, 3), (3, 20), (20, 24)], [(0, 6), (6, 7)])


def main(folder: str, out: str) -> None:
    model, films = load_model(folder), {}
    grays = np.random.default_rng(0).random((24, 16, 24)).astype(np.float32)
    given = [ShotSettings(Palette.from_colors("tomato,teal,khaki"), seed=3)]
    for count in DEVICES:
        settings = default_settings(model.config, devices=count, guidance_scale=1.5)
        for number, shots in enumerate(FILMS):
            networks, before = networks_for(model, settings, [shots]), velocity._cache_size()
            frames = colorize(networks, grays[: shots[-1][1]], shots, given * len(shots), settings)
            films[f"{number}/{count}"] = np.concatenate(list(frames))
            films[f"{number}/{count}/programs"] = velocity._cache_size() - before
            sizes = (1, 1) if networks.mesh is None else networks.mesh.devices.shape[::2]
            films[f"{number}/{count}/mesh"] = np.array(sizes)  # data, frames
    np.savez(Path(out), **films)


if __name__ == "__main__":
    main(*sys.argv[1:])
