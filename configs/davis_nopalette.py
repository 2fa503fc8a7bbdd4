"""Ablation A of the paper: the training of configs/davis.py without the palette branch.

    python train.py --config configs/davis_nopalette.py --workdir runs/davis_nopalette

The palette is never read, the palette layer not trained and zero in the model that comes out;
all else, hardware and time too, is as there. `:runlocal` as well.
"""

import ml_collections

from configs import davis


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Give the configuration; `arg` may be `runlocal`."""
    config = davis.get_config(arg)
    config.trained = (r"unet\.(?!palette_embedding).*",)  # all but the palette layer
    config.rates.palette_dropout = 1.0
    return config
