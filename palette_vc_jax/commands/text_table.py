"""Embed the words that films are tagged with: `python convert/text_table.py --text_tower CLIP`.

SVD's image tower is that of OpenCLIP ViT-H/14, whose text tower is published in transformers'
layout as laion/CLIP-ViT-H-14-laion2B-s32B-b79K. The text tower and PyTorch are needed only once:
the command writes a table of about 430 words to the model's folder.
"""

import argparse
import hashlib

from palette_vc_jax import atomic, cli
from palette_vc_jax.commands import flags

OPENCLIP_SCALE = 100.0


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add(
        "--text_tower",
        required=True,
        help="folder of a CLIP model with its tokenizer, in transformers' layout (safetensors), "
        "or its name on the hub",
    )
    add(
        "--model",
        required=True,
        type=flags.path,
        help="converted model, to whose folder the table is written",
    )
    add("--lexicon", type=flags.path, help="file of words and colors that extends the table")
    add("--logit_scale", type=float, default=OPENCLIP_SCALE, help="scale from cosines to logits")
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Embed the words and write the table."""
    args = parse(argv)
    from palette_vc_jax.conversion import text_tower
    from palette_vc_jax.models.store import load_config
    from palette_vc_jax.models.text_table import FILE, TextTable, save_table
    from palette_vc_jax.palette import lexicon

    path = args.model / FILE
    atomic.check_targets([path], [args.lexicon] if args.lexicon else [])
    width = load_config(args.model).image_encoder.projection_dim
    words = lexicon.vocabulary(lexicon.load(args.lexicon))
    tokenizer, tower = text_tower.read_tower(args.text_tower)
    if tower.config.projection_dim != width:
        raise ValueError(
            f"{args.text_tower}: embeddings of {tower.config.projection_dim} values, but "
            f"{args.model}'s image tower has {width}; give the text tower of the same model."
        )
    notes = {
        "vocabulary_sha256": hashlib.sha256("\n".join(words).encode()).hexdigest(),
        "tower_sha256": text_tower.weights_hash(tower),
        "templates": " | ".join(text_tower.TEMPLATES),
    }
    embeddings = text_tower.embed_words(tokenizer, tower, words)
    save_table(TextTable(tuple(words), embeddings, args.logit_scale, notes), path)
    cli.print_line(f"{len(words)} words: {path}")
