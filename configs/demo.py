"""The demo model: SVD's UNet and image tower, narrow, on latents of the demo's VAE.

    python train.py --config configs/demo.py --workdir runs/demo

Needs the VAE that configs/demo_vae.py trains. About 85 minutes on two CPU cores. `:runlocal`
does the same for four steps.
"""

import ml_collections

from configs import shared


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Give the configuration; `arg` may be `runlocal`."""
    if arg not in ("", "runlocal"):
        raise ValueError(f"config argument {arg!r} is not known; use runlocal, or none.")
    config = ml_collections.ConfigDict()
    config.task = "unet"
    config.model = "demo"  # preset of palette_vc_jax/models/config.py
    config.vae = "runs/demo_vae/model"  # folder with the trained VAE
    config.init_from = ""  # model folder to fine-tune; none: a new model on the VAE above
    # Names of palette_vc_jax/training/trained.py, or regular expressions on weights' names.
    config.trained = ("unet", "image_encoder")
    config.lora = ml_collections.ConfigDict()
    config.lora.rank = 0  # of updates to kernels that are not trained whole; 0: no LoRA
    config.lora.alpha = 16.0  # updates are scaled by alpha / rank
    config.seed = 0
    config.batch_size = 6  # windows a step
    config.weighting = "v"  # of the loss over noise levels: v (SVD's) or eps (the paper's)
    # ln sigma ~ N(mean, std^2): 8 % of the windows lie above sigma 100, where sampling begins.
    config.sigma_mean = 2.2
    config.sigma_std = 1.7
    config.noise_share = 0.9  # of the noise's variance, one picture for all frames of a window
    config.fps = 6  # micro-conditioning: frames per second - 1
    config.motion_bucket = 127  # micro-conditioning, 0 to 255
    config.noise_augmentation = 0.0  # deviation of noise on the gray frames; needs data.cache=''
    config.ema_decay = 0.999  # of the parameters' moving average
    config.log_every = 50  # steps
    config.validate_every = 200  # steps
    config.previews_every = 200  # steps between pictures of held-out clips in color; 0 makes none
    config.save_every = 200  # steps
    config.keep = 2  # newest checkpoints
    config.export_dtype = "float16"  # of the finished model's weights
    config.keep_every = 0  # steps between checkpoints that are kept for good; 0 keeps none
    config.accumulate = 1  # parts of a batch, whose gradients are averaged
    config.compute_dtype = "float32"  # of the UNet; its parameters are float32 anyway
    config.remat = "none"  # what the backward pass computes again: none, layers or attention
    # What a layer that is computed again holds at once, MiB; 0: 64 on devices of up to 16 GiB, or
    # else 2048.
    config.remat_budget_mib = 0
    config.validation_clips = 8  # windows of held-out clips
    config.validation_sigmas = (0.1, 0.5, 2.0, 8.0, 30.0)

    config.rates = ml_collections.ConfigDict()
    config.rates.palette_dropout = 0.2  # of crops in their own hues
    config.rates.grey_dropout = 0.02
    config.rates.reference_color = 0.1  # the image tower sees the reference in color
    config.rates.reference_none = 0.1  # it sees nothing; otherwise the grey reference
    config.rates.joint_dropout = 0.0  # no palette, no gray latents and no reference at once

    config.mesh = shared.mesh()

    config.data = ml_collections.ConfigDict()
    config.data.source = "folders"  # of frames; or videos, or tfds (a prepared davis)
    config.data.root = "../shared/footage/train"
    config.data.cache = "runs/demo_cache"  # folder for latents and palettes; none: encode each step
    config.data.workers = 0  # processes that read ahead; 0 reads in threads
    config.data.prefetch_batches = 4  # read ahead by each process, at most; a worker holds two
    config.data.prefetch_mib = 1024  # MiB that they, or the pixels of a cache in the making, take
    config.data.hold_out_every = 11  # each 11th clip is for validation
    config.data.validation_root = ""  # clips for validation, in place of those held out
    config.data.validation_source = "folders"  # of frames, or videos, or tfds
    config.data.frames = 12  # a crop
    config.data.size = (48, 80)  # pixels of a crop: height, width
    config.data.short_sides = (48, 72)  # pixels of the scaled frame's short side
    config.data.crops = 40  # a clip
    config.data.mirrored = True  # every other crop is mirrored left to right
    config.data.reversed = True  # half of the windows run backward in time
    config.data.turned = 0.5  # share of crops with turned hues, which only the palette tells
    config.data.reference_every = 6  # frames between those that a palette is taken from
    config.data.window = 6  # frames a window
    config.data.strides = (1, 1, 2)  # frames between those of a window, one drawn each

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.kind = "muon"  # or adamw
    config.optimizer.learning_rate = 1e-3  # of biases, norms and other vectors
    config.optimizer.muon_learning_rate = 1e-2  # of kernels
    config.optimizer.palette_learning_rate = 0.0  # peak of the palette layer's; 0: as the rest
    config.optimizer.warmup_steps = 100
    config.optimizer.steps = 4000
    config.optimizer.decay = "cosine"
    config.optimizer.b2 = 0.99
    config.optimizer.weight_decay = 5e-2
    config.optimizer.clip_norm = 1.0

    if arg == "runlocal":
        config.optimizer.steps, config.optimizer.warmup_steps = 4, 1
        config.data.crops, config.data.frames, config.data.reference_every = 1, 8, 8
        config.data.mirrored = False  # which takes two crops
        config.log_every = config.validate_every = config.save_every = config.previews_every = 2
    return config
