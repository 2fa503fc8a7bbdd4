"""What `evaluate.py` does: measure, print the tables, write the JSON."""

import argparse
import json
import sys
import time
from pathlib import Path

from palette_vc_jax import __version__
from palette_vc_jax.metrics import ablations, paper, tables, weights
from palette_vc_jax.metrics.evaluate import Results, evaluate, find_clips
from palette_vc_jax.metrics.films import davis_films, find_films
from palette_vc_jax.metrics.networks import load_networks
from palette_vc_jax.metrics.pooled import POOLED
from palette_vc_jax.models.store import load_model
from palette_vc_jax.palette import gmm, options
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.palette.words import from_words
from palette_vc_jax.sampling.colorize import default_settings
from palette_vc_jax.sampling.tags import load_tagger, tag_film
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.rgb import count_frames


def print_comparison(args: argparse.Namespace, outputs: dict[str, Path]) -> None:
    """Measure folders of outputs beside the reference."""
    names = _check(args)
    found = {row: find_films(path) for row, path in outputs.items()}
    results = _measure(args, names, find_films(args.reference), found)
    print(tables.text_table(results, names))


def print_tables(args: argparse.Namespace, outputs: dict[str, Path]) -> None:
    """Color the clips of `args.data` by the ablations, and measure them with other outputs."""
    names = _check(args)
    films = davis_films(args.data, args.split)
    given = {row: find_films(path) for row, path in outputs.items()}
    mixture = gmm.load(args.checkpoint / "mixture.json")
    sources: dict[str, tuple[Path, ablations.PaletteOf]] = {
        "A": (args.checkpoint_a or args.checkpoint, lambda name, film, seed: None),
        "B": (args.checkpoint, lambda name, film, seed: gmm.sample(mixture, seed)),
        "D": (args.checkpoint, ablations.first_frame),
    }
    titles = dict(paper.ABLATIONS)
    if not args.checkpoint_a:
        titles["A"] = paper.NULL
    try:
        sources["C"] = args.checkpoint, _words(args, list(films))
    except ValueError as error:
        if args.palettes:
            raise
        print(f"row C is left out; give --palettes FILE.json for it. ({error})", file=sys.stderr)
        del titles["C"]
    for row in titles:
        folder, palette_of = sources[row]
        model = load_model(folder)
        settings = default_settings(model.config)
        given[row] = ablations.sample_row(
            films, model, settings, palette_of, args.workdir / row, args.seed
        )
    results = _measure(args, names, films, given)
    print(tables.text_table(results, names))
    print()
    print(paper.tables(results, titles))


def _words(args: argparse.Namespace, clips: list[str]) -> ablations.PaletteOf:
    """Give ablation C's palettes: those of a file, or what words find.

    Raises ValueError if there is neither a file nor a tagger.
    """
    if args.palettes:
        palettes = paper.load_palettes(args.palettes, clips)
        return lambda name, film, seed: palettes[name]
    tagger, tagger_name = load_tagger(args.tagger, args.checkpoint)
    propose = options.proposer_of(args)

    def palette_of(name: str, path: Path, seed: int) -> Palette:
        film = open_film(path)
        shots = [(0, count_frames(film))]
        return from_words("", propose, lambda: (tag_film(film, shots, tagger), tagger_name))

    return palette_of


def _measure(
    args: argparse.Namespace,
    names: list[str],
    reference: dict[str, Path],
    outputs: dict[str, dict[str, Path]],
) -> Results:
    """Measure the metrics `names`, and write the JSON."""
    folder = args.weights or weights.FOLDER
    clips = find_clips(reference, outputs, args.resize)
    networks, gaps = load_networks(names, folder)
    start = time.time()
    results = evaluate(clips, [name for name in names if name not in gaps], networks, args.flow)
    results.gaps.update(gaps)
    about = {
        "reference": {name: str(path) for name, path in reference.items()},
        "outputs": {row: {n: str(p) for n, p in found.items()} for row, found in outputs.items()},
        "settings": {
            "resize": args.resize,
            "fvd_frames": POOLED["fvd"].frames,
            "flow": str(args.flow) if args.flow else "DIS, medium",
        },
        "weights_sha256": {name: weights.sha256(name, folder) for name in networks},
        "version": __version__,
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.time() - start),
    }
    text = json.dumps(about | tables.to_json(results, names), indent=1, allow_nan=False) + "\n"
    partial = args.json.with_name(f".{args.json.name}.partial")
    partial.write_text(text)
    partial.replace(args.json)
    return results


def _check(args: argparse.Namespace) -> list[str]:
    """Give the metrics asked for; what can be wrong is told before anything is computed.

    Raises ValueError for a metric that is not known, and a file that cannot be written.
    """
    if not args.json.absolute().parent.is_dir():
        raise ValueError(f"{args.json.parent}: no such folder; make it, or give another --json.")
    if args.metrics is None:
        return list(tables.TITLES)
    names = [name.strip() for name in args.metrics.split(",") if name.strip()]
    unknown = sorted(set(names) - set(tables.TITLES))
    if unknown or not names:
        raise ValueError(
            f"metric {(unknown or [''])[0]!r} is not known; use some of {', '.join(tables.TITLES)}."
        )
    return names
