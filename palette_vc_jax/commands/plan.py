"""Write a plan file: `palette-vc plan --input FILM --output film.plan.json`.

The other flags are those of `sample`, which does the same with `--write_plan`.
"""

import argparse

from palette_vc_jax.commands import sample


def main(argv: list[str]) -> None:
    """Write a plan file."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--input", required=True, help="film, folder of frames, or image")
    parser.add_argument("--output", required=True, help="the plan file")
    args, others = parser.parse_known_args(argv)
    sample.main(["--input", args.input, "--write_plan", args.output, *others])
