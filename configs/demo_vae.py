"""The demo model's VAE: SVD's, narrow, four pixels a latent.

    python train.py --config configs/demo_vae.py --workdir runs/demo_vae

About 9 minutes on two CPU cores. `:runlocal` does the same for four steps.
"""

import ml_collections

from configs import shared


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Give the configuration; `arg` may be `runlocal`."""
    if arg not in ("", "runlocal"):
        raise ValueError(f"config argument {arg!r} is not known; use runlocal, or none.")
    config = ml_collections.ConfigDict()
    config.task = "vae"
    config.model = "demo"  # preset of palette_vc_jax/models/config.py
    config.seed = 0
    config.batch_size = 6  # clips a step
    config.color_floor = 0.003  # variance added to each color axis before errors are scaled
    config.kl_weight = 3e-4
    config.ema_decay = 0.995  # of the parameters' moving average
    config.log_every = 25  # steps
    config.validate_every = 200  # steps
    config.save_every = 200  # steps
    config.keep = 2  # newest checkpoints
    config.keep_every = 0  # steps between checkpoints that are kept for good; 0 keeps none
    config.accumulate = 1  # parts of a batch, whose gradients are averaged

    config.mesh = shared.mesh()

    config.data = ml_collections.ConfigDict()
    config.data.root = "../shared/footage/train"  # folders of frames
    config.data.hold_out_every = 11  # each 11th clip is for validation
    config.data.frames = 32  # a crop
    config.data.size = (48, 80)  # pixels of a crop: height, width
    config.data.short_sides = (48, 80)  # pixels of the scaled frame's short side
    config.data.crops = 6  # a clip
    config.data.mirrored = True  # every other crop is mirrored left to right
    config.data.window = 3  # frames a training clip
    config.data.patch = (32, 48)  # pixels of a training clip
    config.data.grey_rate = 0.3  # of training clips without color

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.kind = "muon"  # or adamw
    config.optimizer.learning_rate = 1e-3  # of biases, norms and other vectors
    config.optimizer.muon_learning_rate = 1e-2  # of kernels
    config.optimizer.warmup_steps = 50
    config.optimizer.steps = 800
    config.optimizer.decay = "cosine"
    config.optimizer.b2 = 0.99
    config.optimizer.weight_decay = 0.0
    config.optimizer.clip_norm = 1.0

    if arg == "runlocal":
        config.optimizer.steps, config.optimizer.warmup_steps = 4, 1
        config.data.crops = 1
        config.data.frames = 4
        config.log_every = config.validate_every = config.save_every = 2
    return config
