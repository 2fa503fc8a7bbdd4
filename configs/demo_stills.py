"""The first stage of the demo model: SVD's UNet, narrow, on single frames and photos.

    python train.py --config configs/demo_stills.py --workdir runs/demo_stills

Needs the VAE and the image tower that configs/demo_tower.py writes. Windows have one frame: the
same time shows six times as many pictures as windows of six would. `:runlocal` does the same for
four steps.
"""

from ml_collections import ConfigDict

from palette_vc_jax.training.config import base, is_local


def get_config(argument: str = "") -> ConfigDict:
    """Return the config; `argument` may be `runlocal`."""
    config = base()
    config.model, config.vae = "demo", "runs/demo_tower/model"
    config.batch_size = 24
    # 8 % of the windows are above sigma 100, where sampling begins.
    config.sigma_mean, config.sigma_std = 2.2, 1.7
    config.shared_noise_fraction = 0.9
    config.ema_decay = 0.999
    config.update(log_every=50, validate_every=500, previews_every=500, save_every=250)
    config.update(validation_clips=24, validation_sigmas=(0.1, 0.5, 2.0, 8.0, 30.0))
    config.rates.update(palette_dropout=0.3, gray_dropout=0.02, joint_dropout=0.0)
    config.rates.update(reference_color=0.1, reference_none=0.1)
    config.data.root, config.data.cache = "../shared/footage/train", "runs/demo_stills_cache"
    config.data.photos, config.data.photo_rate, config.data.photo_crops = (
        "runs/demo_photos",
        0.7,
        12,
    )
    config.data.hold_out_every = 11
    config.data.update(frames=8, size=(64, 96), short_sides=(64, 112), crops=20)
    config.data.update(mirrored=True, hue_shift_rate=0.3, reference_every=8, window=1)
    config.data.region_rate = 0.3
    config.optimizer.update(kind="muon", learning_rate=1e-3, muon_learning_rate=1e-2)
    config.optimizer.update(steps=6000, warmup_steps=100, decay="cosine", b2=0.99)
    config.optimizer.weight_decay = 5e-2
    if is_local(argument):
        config.update(log_every=2, validate_every=2, previews_every=2, save_every=2, batch_size=2)
        config.data.update(crops=1, frames=2, photos="", mirrored=False)
        config.optimizer.update(steps=4, warmup_steps=1)
    return config
