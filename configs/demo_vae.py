"""The demo model's VAE: SVD's, narrow, four pixels a latent.

    python train.py --config configs/demo_vae.py --workdir runs/demo_vae

About 15 minutes on two CPU cores. `:runlocal` does the same for four steps.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Give the configuration; `arg` may be `runlocal`."""
    config = ml_collections.ConfigDict()
    config.task = "vae"
    config.model = "demo"  # preset of palette_vc_jax/models/config.py
    config.seed = 0
    config.batch_size = 6  # clips a step
    config.chroma_weight = 1.0  # of the chroma error against the luma error
    config.kl_weight = 3e-4
    config.average_decay = 0.998  # of the parameters' running average
    config.log_every = 50  # steps
    config.validate_every = 250  # steps
    config.save_every = 250  # steps

    config.data = ml_collections.ConfigDict()
    config.data.root = "../shared/footage/train"  # folders of frames
    config.data.hold_out_every = 11  # each 11th clip is for validation
    config.data.frames = 32  # read from each clip
    config.data.size = (48, 80)  # pixels of a crop: height, width
    config.data.short_sides = (48, 80)  # pixels of the scaled frame's short side
    config.data.crops = 6  # a clip
    config.data.window = 3  # frames a training clip
    config.data.patch = (32, 48)  # pixels of a training clip
    config.data.grey_rate = 0.3  # of training clips without color

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 50
    config.optimizer.steps = 1400
    config.optimizer.decay = "cosine"
    config.optimizer.b2 = 0.99
    config.optimizer.weight_decay = 1e-3
    config.optimizer.clip_norm = 1.0

    if arg == "runlocal":
        config.optimizer.steps, config.optimizer.warmup_steps = 4, 1
        config.data.crops = 1
        config.data.frames = 4
        config.log_every = config.validate_every = config.save_every = 2
    return config
