"""Color a film: `python sample.py --input FILM --output OUT`."""

from palette_vc_jax.commands.main import run_script

if __name__ == "__main__":
    run_script("sample")
