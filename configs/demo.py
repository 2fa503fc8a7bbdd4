"""The second stage of the demo model: the model of configs/demo_stills.py, on windows of clips.

    python train.py --config configs/demo.py --workdir runs/demo

Reads the latents that the first stage cached. Photos stay in the mix as windows that repeat one
picture, because clips alone show too few things. `:runlocal` does the same for four steps.
"""

from ml_collections import ConfigDict

from palette_vc_jax.training.config import base, is_local


def get_config(argument: str = "") -> ConfigDict:
    """Return the config; `argument` may be `runlocal`."""
    config = base()
    config.init_from = "runs/demo_stills/model"
    config.batch_size = 12
    # 8 % of the windows are above sigma 100, where sampling begins.
    config.sigma_mean, config.sigma_std = 2.2, 1.7
    config.shared_noise_fraction = 0.9
    config.ema_decay, config.export_dtype = 0.999, "float16"
    config.update(log_every=50, validate_every=500, previews_every=500, save_every=250)
    config.update(validation_clips=24, validation_sigmas=(0.1, 0.5, 2.0, 8.0, 30.0))
    config.rates.update(palette_dropout=0.3, gray_dropout=0.02, joint_dropout=0.0)
    config.rates.update(reference_color=0.1, reference_none=0.1)
    config.data.root, config.data.cache = "../shared/footage/train", "runs/demo_stills_cache"
    config.data.photos, config.data.photo_rate, config.data.photo_crops = (
        "runs/demo_photos",
        0.5,
        12,
    )
    config.data.hold_out_every = 11
    config.data.update(frames=8, size=(64, 96), short_sides=(64, 112), crops=20)
    config.data.update(mirrored=True, reversed=True, hue_shift_rate=0.3, reference_every=8)
    config.data.update(window=6, region_rate=0.3)
    config.optimizer.update(kind="muon", learning_rate=5e-4, muon_learning_rate=5e-3)
    config.optimizer.update(steps=4000, warmup_steps=100, decay="cosine", b2=0.99)
    config.optimizer.weight_decay = 5e-2
    if is_local(argument):
        config.update(log_every=2, validate_every=2, previews_every=2, save_every=2)
        config.data.update(crops=1, photos="", mirrored=False)
        config.optimizer.update(steps=4, warmup_steps=1)
    return config
