"""The demo model's VAE: SVD's, narrow, four pixels a latent.

    python train.py --config configs/demo_vae.py --workdir runs/demo_vae

Takes about 9 minutes on two CPU cores. `:runlocal` does the same for four steps.
"""

from ml_collections import ConfigDict

from palette_vc_jax.training.config import base, is_local


def get_config(argument: str = "") -> ConfigDict:
    """Return the config; `argument` may be `runlocal`."""
    config = base()
    config.task, config.model = "vae", "demo"
    config.batch_size = 6  # clips of a step
    config.color_floor, config.kl_weight = 0.003, 3e-4
    config.ema_decay = 0.995
    config.update(log_every=25, validate_every=200, save_every=200)
    config.data.root, config.data.hold_out_every = "../shared/footage/train", 11
    config.data.update(frames=32, size=(48, 80), short_sides=(48, 80), crops=6, mirrored=True)
    config.data.update(window=3, patch=(32, 48), gray_rate=0.3)
    config.optimizer.update(kind="muon", learning_rate=1e-3, muon_learning_rate=1e-2)
    config.optimizer.update(steps=800, warmup_steps=50, decay="cosine", b2=0.99)
    config.optimizer.weight_decay = 0.0
    if is_local(argument):
        config.update(log_every=2, validate_every=2, save_every=2)
        config.data.update(crops=1, frames=4)
        config.optimizer.update(steps=4, warmup_steps=1)
    return config
