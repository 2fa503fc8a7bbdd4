"""The demo model: SVD's UNet and image tower, narrow, on latents of the demo's VAE.

    python train.py --config configs/demo.py --workdir runs/demo

Needs the VAE that configs/demo_vae.py trains. Takes about 85 minutes on two CPU cores. `:runlocal`
does the same for four steps.
"""

from ml_collections import ConfigDict

from palette_vc_jax.training.config import base, is_local


def get_config(argument: str = "") -> ConfigDict:
    """Return the config; `argument` may be `runlocal`."""
    config = base()
    config.model, config.vae = "demo", "runs/demo_vae/model"
    config.trained = ("unet", "image_encoder")
    config.batch_size = 6
    # 8 % of the windows are above sigma 100, where sampling begins.
    config.sigma_mean, config.sigma_std = 2.2, 1.7
    config.shared_noise_fraction = 0.9
    config.ema_decay, config.export_dtype = 0.999, "float16"
    config.update(log_every=50, validate_every=200, previews_every=200, save_every=200)
    config.update(validation_clips=8, validation_sigmas=(0.1, 0.5, 2.0, 8.0, 30.0))
    config.rates.update(palette_dropout=0.2, gray_dropout=0.02, joint_dropout=0.0)
    config.rates.update(reference_color=0.1, reference_none=0.1)
    config.data.root, config.data.cache = "../shared/footage/train", "runs/demo_cache"
    config.data.hold_out_every = 11
    config.data.update(frames=12, size=(48, 80), short_sides=(48, 72), crops=40)
    config.data.update(mirrored=True, reversed=True, hue_shift_rate=0.5, reference_every=6)
    config.data.update(window=6, strides=(1, 1, 2), region_rate=0.3)
    config.optimizer.update(kind="muon", learning_rate=1e-3, muon_learning_rate=1e-2)
    config.optimizer.update(steps=4000, warmup_steps=100, decay="cosine", b2=0.99)
    config.optimizer.weight_decay = 5e-2
    if is_local(argument):
        config.update(log_every=2, validate_every=2, previews_every=2, save_every=2)
        config.data.update(crops=1, frames=8, reference_every=8)
        config.data.mirrored = False  # it needs two crops
        config.optimizer.update(steps=4, warmup_steps=1)
    return config
