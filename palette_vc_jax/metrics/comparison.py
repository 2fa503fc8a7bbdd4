"""What `evaluate.py` does: measure, print the tables, write the JSON."""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from palette_vc_jax import __version__, atomic, files
from palette_vc_jax.metrics import ablations, paper, tables, weights
from palette_vc_jax.metrics.chunk import Network
from palette_vc_jax.metrics.evaluate import Clip, Results, evaluate, find_clips
from palette_vc_jax.metrics.films import davis_films, find_films
from palette_vc_jax.metrics.meters import METRICS, WarpError
from palette_vc_jax.metrics.networks import load_networks
from palette_vc_jax.metrics.pooled import POOLED
from palette_vc_jax.metrics.warp import check_flow
from palette_vc_jax.models.store import file_hashes, load_model
from palette_vc_jax.palette import gmm
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.palette.words import from_words
from palette_vc_jax.sampling.colorize import default_settings
from palette_vc_jax.sampling.tags import load_tagger, tag_film
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.rgb import count_frames

Films = dict[str, Path]  # by name


def print_comparison(args: argparse.Namespace, outputs: dict[str, Path]) -> None:
    """Measure folders of outputs beside the reference."""
    names, networks, gaps = _check(args)
    reference = find_films(args.reference)
    clips = find_clips(
        reference, {row: find_films(path) for row, path in outputs.items()}, args.resize
    )
    _check_json(args, clips)
    _check_flow(args, names, clips)
    results, about = _measure(args, names, clips, networks, gaps)
    print(tables.text_table(results, names))
    _write(args.json, about | tables.to_json(results, names))


def print_tables(args: argparse.Namespace, outputs: dict[str, Path]) -> None:
    """Color the clips of `args.data` by the ablations, and measure them with other outputs."""
    names, networks, gaps = _check(args)
    taken = sorted(set(outputs) & set(paper.ABLATIONS))
    if taken:
        raise ValueError(f"an output cannot be called {taken[0]!r}, as an ablation is.")
    films = davis_films(args.data, args.split)
    given = {row: find_films(path) for row, path in outputs.items()}
    clips = find_clips(films, given, args.resize)
    _check_json(args, clips)
    _check_flow(args, names, clips)
    titles = dict(paper.ABLATIONS)
    if not args.checkpoint_a:
        titles["A"] = paper.NULL
    sources = _sources(args, films)
    titles = {row: title for row, title in titles.items() if row in sources}
    for row in titles:
        model = load_model(sources[row].checkpoint)
        given[row] = ablations.sample_row(
            films,
            model,
            default_settings(model.config),
            sources[row],
            args.workdir / row,
            args.seed,
        )
    clips = find_clips(films, given, args.resize)
    results, about = _measure(args, names, clips, networks, gaps)
    print(tables.text_table(results, names))
    print()
    print(paper.tables(results, titles))
    about["ablations"] = {
        row: {
            "title": titles[row],
            "checkpoint": str(sources[row].checkpoint),
            "weights_sha256": file_hashes(sources[row].checkpoint),
        }
        for row in titles
    }
    about |= {"data": str(args.data), "split": args.split, "seed": args.seed}
    _write(args.json, about | tables.to_json(results, names))


def _sources(args: argparse.Namespace, films: Films) -> dict[str, ablations.Row]:
    """Return what each ablation colors with; C is left out where it cannot be had."""
    mixture = gmm.load(args.checkpoint / "mixture.json")
    model = args.checkpoint
    sources = {
        "A": ablations.Row(args.checkpoint_a or model, lambda name, film, seed: None),
        "B": ablations.Row(model, lambda name, film, seed: gmm.sample(mixture, seed)),
        "D": ablations.Row(model, ablations.first_frame, ablations.first_reference),
    }
    try:
        sources["C"] = ablations.Row(model, _words(args, list(films)))
    except ValueError as error:
        if args.palettes:
            raise
        print(f"row C is left out; give --palettes FILE.json for it. ({error})", file=sys.stderr)
    return sources


def _words(args: argparse.Namespace, clips: list[str]) -> ablations.PaletteOf:
    """Give ablation C's palettes: those of a file, or what words find.

    Raises ValueError if there is neither a file nor a tagger.
    """
    if args.palettes:
        palettes = paper.load_palettes(args.palettes, clips)
        return lambda name, film, seed: palettes[name]
    tagger, tagger_name = load_tagger(args.tagger, args.checkpoint)
    propose = args.proposer()

    def palette_of(name: str, path: Path, seed: int) -> Palette:
        film = open_film(path)
        shots = [(0, count_frames(film))]
        return from_words("", propose, lambda: (tag_film(film, shots, tagger), tagger_name))

    return palette_of


def _measure(
    args: argparse.Namespace,
    names: list[str],
    clips: list[Clip],
    networks: Mapping[str, Network],
    gaps: Mapping[str, str],
) -> tuple[Results, dict[str, Any]]:
    """Measure the metrics `names`; give what is to be written of how it was done, too."""
    start = time.time()
    results = evaluate(clips, [name for name in names if name not in gaps], networks, args.flow)
    results.gaps.update(gaps)
    about = {
        "reference": {clip.name: str(clip.truth.path) for clip in clips},
        "outputs": {
            row: {clip.name: str(clip.outputs[row].path) for clip in clips}
            for row in clips[0].outputs
        },
        "settings": {
            "resize": args.resize,
            "fvd_frames": POOLED["fvd"].frames,
            "flow": str(args.flow) if args.flow else f"DIS, medium, OpenCV {cv2.__version__}",
        },
        "weights_sha256": {
            name: weights.sha256(name, args.weights or weights.FOLDER) for name in networks
        },
        "version": __version__,
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.time() - start),
    }
    return results, about


def _check(args: argparse.Namespace) -> tuple[list[str], dict[str, Network], dict[str, str]]:
    """Give the metrics asked for, their networks, and which lack weights.

    What can be wrong is told before anything is computed: raises ValueError for a metric that is
    not known, for damaged weights, and for a file that cannot be written.
    """
    if args.json.is_dir() or not args.json.absolute().parent.is_dir():
        raise ValueError(f"{args.json}: cannot be written; give --json a file in a folder.")
    atomic.check_targets([args.json])
    with tempfile.TemporaryFile(dir=args.json.absolute().parent):
        pass  # the folder can be written to
    names = list(tables.TITLES)
    if args.metrics is not None:
        names = [name.strip() for name in args.metrics.split(",") if name.strip()]
        unknown = sorted(set(names) - set(tables.TITLES))
        if unknown or not names:
            raise ValueError(
                f"metric {(unknown or [''])[0]!r} is not known; use some of "
                f"{', '.join(tables.TITLES)}."
            )
    return names, *load_networks(names, args.weights or weights.FOLDER)


def _check_json(args: argparse.Namespace, clips: list[Clip]) -> None:
    """Raise ValueError if the JSON would replace a file that is read, or is not an evaluation."""
    films = [film for clip in clips for film in (clip.truth, *clip.outputs.values())]
    named = [args.palettes, args.checkpoint and args.checkpoint / "mixture.json"]
    read = [*filter(None, named), *args.words_files]
    read += [path for film in films for path in (film.path, *film.files)]
    atomic.check_targets([args.json], read)
    if not args.json.exists():
        return
    with contextlib.suppress(OSError, ValueError):
        found = files.read_json(args.json)
        if isinstance(found, dict) and "rows" in found:
            return
    raise ValueError(f"{args.json}: exists and is not an evaluation; give --json another name.")


def _check_flow(args: argparse.Namespace, names: list[str], clips: list[Clip]) -> None:
    if args.flow is None:
        return
    if not any(name in METRICS and isinstance(METRICS[name].meter(), WarpError) for name in names):
        raise ValueError(f"--flow {args.flow}: no metric uses it; leave it out, or ask for one.")
    for clip in clips:
        check_flow(args.flow / clip.name, clip.frames)


def _write(path: Path, content: dict[str, Any]) -> None:
    atomic.write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
