"""The demo's image tower: it learns VGG16's features from gray images (training/tower_task.py).

    python benchmarks/demo_photos.py --output runs/demo_photos
    python train.py --config configs/demo_tower.py --workdir runs/demo_tower

Needs the VAE that configs/demo_vae.py trains, and VGG16's weights (convert/metric_weights.py). The
model that it writes holds the VAE too. `:runlocal` does the same for four steps.
"""

from ml_collections import ConfigDict

from palette_vc_jax.training.config import base, is_local


def get_config(argument: str = "") -> ConfigDict:
    """Return the config; `argument` may be `runlocal`."""
    config = base()
    config.task, config.model, config.vae = "image_encoder", "demo", "runs/demo_vae/model"
    config.batch_size = 64  # images of a step
    config.ema_decay = 0.998
    config.update(log_every=50, validate_every=250, save_every=250)
    config.data.root, config.data.hold_out_every = "../shared/footage/train", 11
    config.data.photos, config.data.photo_crops = "runs/demo_photos", 3
    config.data.update(size=(144, 192), short_sides=(144, 170), crops=8)
    config.data.update(mirrored=True, patch=(72, 96))
    config.optimizer.update(kind="muon", learning_rate=1e-3, muon_learning_rate=1e-2)
    config.optimizer.update(steps=5000, warmup_steps=100, decay="cosine", b2=0.99)
    config.optimizer.weight_decay = 5e-2
    if is_local(argument):
        config.update(log_every=2, validate_every=2, save_every=2, batch_size=4)
        config.data.update(photos="", crops=1, mirrored=False)
        config.optimizer.update(steps=4, warmup_steps=1)
    return config
