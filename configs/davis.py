"""The paper's training: SVD-XT 1.1 fine-tuned on DAVIS 2017 to color 14 frames of 1024x576.

    python convert/svd_to_flax.py --source stabilityai/stable-video-diffusion-img2vid-xt-1-1 \
      --output models/svd_xt
    python train.py --config configs/davis.py --workdir runs/davis

From the paper: the 90 clips of train+validation, AdamW, learning rate 1e-5 after 500 steps of
linear warm-up, UNet and palette layer trained, VAE and CLIP frozen. The paper states no batch size,
number of steps, noise distribution or dropout rates; the values marked "(not stated)" are choices.
Three of the 90 clips are held out for validation; `--config.data.hold_out_every=0` trains on all.

Hardware: one window per chip of 16 GiB or more with the latents cached (about 1.4 GB of disk), so
16 chips for a step in one go; fewer chips with `--config.accumulate`. The time that training takes
has not been measured.

`:runlocal` fine-tunes the bundled demo model for about two minutes on two CPU cores, on any folder
of frame folders: `--config configs/davis.py:runlocal --config.data.root=CLIPS`.

Other ways to train, each with more flags:
    temporal layers and palette layer   --config.trained=temporal --config.trained=palette
    attention and palette layer         --config.trained=attention --config.trained=palette
    palette layer alone                 --config.trained=palette
    LoRA and palette layer              --config.trained=palette --config.lora.rank=16
"""

from pathlib import Path

from ml_collections import ConfigDict

from palette_vc_jax.training.config import DEMO, base, is_local


def get_config(argument: str = "") -> ConfigDict:
    """Return the config; `argument` may be `runlocal`."""
    config = base()
    config.init_from = "models/svd_xt"
    config.batch_size = 16  # (not stated)
    config.compute_dtype, config.remat = "bfloat16", "layers"
    config.sigma_mean, config.sigma_std = 1.0, 1.6  # SVD's for this size (not stated)
    config.fps, config.motion_bucket = 6, 127  # SVD-XT 1.1's (not stated)
    config.ema_decay = 0.9999  # SVD's (not stated)
    config.rates.update(palette_dropout=0.1, gray_dropout=0.05, joint_dropout=0.05)  # (not stated)
    config.rates.update(reference_color=0.45, reference_none=0.1)  # (not stated)
    config.data.source = "tfds"  # a prepared davis; also: folders of frames, or videos
    config.data.root = str(Path("~/tensorflow_datasets").expanduser())
    config.data.cache = "runs/davis_cache"
    config.data.hold_out_every = 30  # three clips; the paper holds out none
    config.data.frames = 104  # the longest clip, whole
    config.data.size, config.data.short_sides = (576, 1024), (576, 576)
    config.data.window = 14  # (not stated)
    config.optimizer.learning_rate, config.optimizer.warmup_steps = 1e-5, 500
    config.optimizer.steps = 10_000  # (not stated)
    if is_local(argument):
        _run_locally(config)
    return config


def _run_locally(config: ConfigDict) -> None:
    """Shrink the run to the bundled model; it knows other noise, so that its loss falls."""
    config.update(init_from=DEMO, compute_dtype="float32", remat="none", batch_size=6)
    config.update(ema_decay=0.9, validation_clips=4, validation_sigmas=(0.5, 2.0, 8.0))
    config.update(log_every=20, validate_every=20, previews_every=20, save_every=10)
    config.data.update(source="folders", root="../shared/footage/train", cache="")
    config.data.update(hold_out_every=8, frames=8, window=4, size=(32, 48), short_sides=(32, 48))
    config.optimizer.update(learning_rate=5e-4, steps=60, warmup_steps=5)
