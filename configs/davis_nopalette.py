"""Ablation A of the paper: the training of configs/davis.py without the palette branch.

    python train.py --config configs/davis_nopalette.py --workdir runs/davis_nopalette

The palette is never read, and the palette layer is not trained and is zero in the exported model.
Everything else, hardware and time included, is as in configs/davis.py; so is `:runlocal`.
"""

from ml_collections import ConfigDict

from palette_vc_jax.training.config import load


def get_config(argument: str = "") -> ConfigDict:
    """Return the config; `argument` may be `runlocal`."""
    config = load("davis", argument)
    config.trained = (r"unet\.(?!palette_embedding).*",)  # all but the palette layer
    config.rates.palette_dropout = 1.0
    return config
