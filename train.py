"""Train a model: `python train.py --config davis --workdir runs/davis`."""

from palette_vc_jax.commands.main import run_script

if __name__ == "__main__":
    run_script("train")
