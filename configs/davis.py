"""The paper's training: SVD-XT 1.1 fine-tuned on DAVIS 2017 to color 14 frames of 1024x576.

    python convert/svd_to_flax.py --source stabilityai/stable-video-diffusion-img2vid-xt-1-1 \
      --output weights/svd_xt_1_1
    python train.py --config configs/davis.py --workdir runs/davis

From the paper: the 90 clips of train+validation, AdamW, learning rate 1e-5 after 500 steps of
linear warm-up, UNet and palette layer trained, VAE and CLIP frozen. It states no batch size, number
of steps, noise distribution or dropout rates: those below are choices. Three of the 90 clips are
held out to look at; `--config.data.hold_out_every=0` trains on all of them. Hardware: one window
per chip of 16 GiB or more with the latents cached (about 1.4 GB of disk), so 16 chips for a step in
one go; fewer with `--config.accumulate`. How long it takes has not been measured.

`:runlocal` fine-tunes the bundled demo model for about two minutes on two CPU cores, on any folder
of frame folders: `--config configs/davis.py:runlocal --config.data.root=CLIPS`.

Other ways to train, each a flag more:
    temporal layers and palette layer   --config.trained=temporal --config.trained=palette
    attention and palette layer         --config.trained=attention --config.trained=palette
    palette layer alone                 --config.trained=palette
    LoRA and palette layer              --config.trained=palette --config.lora.rank=16
"""

from pathlib import Path

import ml_collections

from configs import shared

DEMO = Path(__file__).resolve().parents[1] / "palette_vc_jax" / "demo"


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Give the configuration; `arg` may be `runlocal`."""
    if arg not in ("", "runlocal"):
        raise ValueError(f"config argument {arg!r} is not known; use runlocal, or none.")
    config = ml_collections.ConfigDict()
    config.task = "unet"
    config.init_from = "weights/svd_xt_1_1"  # model folder to fine-tune
    config.model = "svd_xt"  # preset, for --compile_only where init_from is not there
    config.vae = ""  # folder with the VAE of a new model
    # Names of palette_vc_jax/training/trained.py, or regular expressions on weights' names.
    config.trained = ("unet",)
    config.lora = ml_collections.ConfigDict()
    config.lora.rank = 0  # of updates to kernels that are not trained whole; 0: no LoRA
    config.lora.alpha = 16.0  # updates are scaled by alpha / rank
    config.seed = 0
    config.batch_size = 16  # windows a step (not stated)
    config.accumulate = 1  # parts of a batch, whose gradients are averaged
    config.mesh = shared.mesh()
    config.compute_dtype = "bfloat16"  # of the UNet; its parameters are float32 anyway
    config.remat = "layers"  # what the backward pass computes again: none, layers or attention
    # What a layer that is computed again holds at once, MiB; 0: 64 on devices of up to 16 GiB, or
    # else 2048.
    config.remat_budget_mib = 0
    config.weighting = "v"  # of the loss over noise levels: v (SVD's) or eps (the paper's)
    config.sigma_mean = 1.0  # ln sigma ~ N(mean, std^2), SVD's for this size (not stated)
    config.sigma_std = 1.6
    config.noise_share = 0.0  # of the noise's variance, one picture for all frames of a window
    config.fps = 6  # micro-conditioning: frames per second - 1 (not stated; SVD-XT 1.1's)
    config.motion_bucket = 127  # micro-conditioning, 0 to 255 (not stated; SVD-XT 1.1's)
    config.noise_augmentation = 0.0  # deviation of noise on the gray frames; needs data.cache=''
    config.ema_decay = 0.9999  # of the parameters' moving average, SVD's
    config.log_every = 10  # steps
    config.validate_every = 500  # steps
    config.previews_every = 500  # steps between pictures of held-out clips in color; 0 makes none
    config.save_every = 500  # steps
    config.keep = 2  # newest checkpoints
    config.export_dtype = "float32"  # of the finished model's weights
    config.keep_every = 0  # steps between checkpoints that are kept for good; 0 keeps none
    config.validation_clips = 16  # windows of held-out clips; a multiple of data x fsdp
    config.validation_sigmas = (0.5, 2.0, 8.0, 30.0, 100.0)

    config.rates = ml_collections.ConfigDict()  # probabilities (not stated)
    config.rates.palette_dropout = 0.1  # the null palette
    config.rates.grey_dropout = 0.05  # no grey latents
    config.rates.reference_color = 0.45  # the image tower sees the reference in color
    config.rates.reference_none = 0.1  # it sees nothing; otherwise the grey reference
    config.rates.joint_dropout = 0.05  # no palette, no gray latents and no reference at once

    config.data = ml_collections.ConfigDict()
    config.data.source = "tfds"  # a prepared davis; or folders of frames, or videos
    config.data.root = str(Path("~/tensorflow_datasets").expanduser())
    config.data.cache = "runs/davis_cache"  # folder for latents; none: encode each step
    config.data.workers = 0  # processes that read ahead; 0 reads in threads
    config.data.prefetch_batches = 4  # read ahead by each process, at most; a worker holds two
    config.data.prefetch_mib = 1024  # MiB that they, or the pixels of a cache in the making, take
    # Each 30th clip, three of the 90, is for validation and previews; 0 trains on all, as the
    # paper does, and then takes the clips of validation_root.
    config.data.hold_out_every = 30
    config.data.validation_root = ""  # clips for validation, in place of those held out
    config.data.validation_source = "folders"  # of frames, or videos, or tfds
    config.data.frames = 104  # a crop: the longest clip, whole
    config.data.size = (576, 1024)  # pixels of a crop: height, width
    config.data.short_sides = (576, 576)  # pixels of the scaled frame's short side
    config.data.crops = 1  # a clip
    config.data.mirrored = False  # every other crop is mirrored left to right
    config.data.reversed = False  # half of the windows run backward in time
    config.data.turned = ml_collections.config_dict.placeholder(float)  # colors as they are
    config.data.reference_every = 4  # frames between those that a palette is taken from
    config.data.window = 14  # frames a window (not stated)
    config.data.strides = (1,)  # frames between those of a window, one drawn each

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.kind = "adamw"  # or muon
    config.optimizer.learning_rate = 1e-5
    config.optimizer.muon_learning_rate = 1e-4  # of kernels, with muon
    config.optimizer.palette_learning_rate = 0.0  # peak of the palette layer's; 0: as the rest
    config.optimizer.warmup_steps = 500
    config.optimizer.steps = 10_000  # (not stated)
    config.optimizer.decay = "constant"  # or cosine
    config.optimizer.b2 = 0.999
    config.optimizer.weight_decay = 1e-2
    config.optimizer.clip_norm = 1.0

    if arg == "runlocal":
        _run_locally(config)
    return config


def _run_locally(config: ml_collections.ConfigDict) -> None:
    """Shrink the run to the bundled model; it knows other noise, so that its loss falls."""
    config.init_from = str(DEMO)
    config.compute_dtype, config.remat = "float32", "none"
    config.batch_size, config.validation_clips = 6, 4
    config.ema_decay = 0.9
    config.log_every, config.validate_every, config.previews_every = 20, 20, 20
    config.save_every = 10
    config.validation_sigmas = (0.5, 2.0, 8.0)
    config.data.source = "folders"
    config.data.root = "../shared/footage/train"
    config.data.cache = ""
    config.data.hold_out_every = 8
    config.data.frames = 8
    config.data.size, config.data.short_sides = (32, 48), (32, 48)
    config.data.window = 4
    config.optimizer.learning_rate = 5e-4
    config.optimizer.steps, config.optimizer.warmup_steps = 60, 5
