"""`python -m palette_vc_jax NAME ...`: the commands of `palette-vc`."""

from palette_vc_jax.commands.main import run

if __name__ == "__main__":
    run()
