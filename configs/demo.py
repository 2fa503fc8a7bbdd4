"""The second stage of the demo model: the model of configs/demo_stills.py, on windows of clips.

    python train.py --config configs/demo.py --workdir runs/demo

Reads the latents that the first stage cached. Photos stay in the mix as windows that repeat one
picture, because clips alone show too few things. `:runlocal` does the same for four steps.
"""

from ml_collections import ConfigDict

from palette_vc_jax.training.config import is_local, load


def get_config(argument: str = "") -> ConfigDict:
    """Return the config; `argument` may be `runlocal`."""
    config = load("demo_stills")  # the same data, noise levels and rates
    # The model folder names its architecture and its VAE.
    config.model, config.vae, config.init_from = "svd_xt", "", "runs/demo_stills/model"
    config.batch_size, config.export_dtype = 12, "float16"
    config.data.update(photo_rate=0.5, reversed=True, window=6)
    config.optimizer.update(learning_rate=5e-4, muon_learning_rate=5e-3, steps=4000)
    if is_local(argument):
        config.update(log_every=2, validate_every=2, previews_every=2, save_every=2)
        config.data.update(crops=1, photos="", mirrored=False)
        config.optimizer.update(steps=4, warmup_steps=1)
    return config
