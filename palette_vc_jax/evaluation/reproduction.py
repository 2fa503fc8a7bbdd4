"""Reproduce the paper's tables: color clips by its ablations, and measure them."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palette_vc_jax import cli
from palette_vc_jax.evaluation import ablations, paper
from palette_vc_jax.evaluation.clips import find_clips
from palette_vc_jax.evaluation.comparison import DEFAULTS, EvaluationOptions, prepare
from palette_vc_jax.evaluation.films import davis_films, find_films
from palette_vc_jax.evaluation.results import Results
from palette_vc_jax.models.store import file_hashes, load_model
from palette_vc_jax.palette import gmm, words
from palette_vc_jax.palette.palette import Palette
from palette_vc_jax.sampling.colorize import default_settings
from palette_vc_jax.sampling.plain import PLAIN
from palette_vc_jax.sampling.tags import load_tagger, tag_film
from palette_vc_jax.video.film import open_film
from palette_vc_jax.video.rgb import count_frames

Films = dict[str, Path]  # by name


@dataclass(frozen=True)
class PaperOptions:
    """Models, clips and palettes of the paper's tables.

    Args:
        checkpoint: model folder.
        data: DAVIS 2017, or a folder of films.
        split: name of a list of DAVIS' clips.
        checkpoint_a: model trained without palettes, for row A; None for `checkpoint` with the
            null palette.
        palettes: JSON from clips to colors, for row C; None for palettes from the clips' tags.
        tagger: name of a tagger, see `tags.load_tagger`.
        make_proposer: function that returns the proposer of colors for words; called only for
            row C without `palettes`.
        workdir: folder of the colored films.
        seed: seed of noise and mixture of the first clip; that of the n-th is `seed` + n.
        mixture: file of a mixture for row B; None for the one beside the model.
        settings: settings that override the model's, as for `default_settings`.
    """

    checkpoint: Path
    data: Path
    split: str = "val"
    checkpoint_a: Path | None = None
    palettes: Path | None = None
    tagger: str = "clip"
    make_proposer: Callable[[], words.Proposer] = words.proposer
    workdir: Path = Path("runs/evaluation")
    seed: int = 0
    mixture: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def reproduce(
    given: PaperOptions,
    outputs: Mapping[str, str | Path] | None = None,
    options: EvaluationOptions = DEFAULTS,
) -> tuple[Results, dict[str, str]]:
    """Color the clips by each ablation, and measure them and other outputs.

    Row C is omitted, with a message on stderr, if its palettes are not available. Films that an
    earlier run colored with the same options are not colored again.

    Args:
        given: models, clips and palettes.
        outputs: name of another row -> colored films.
        options: what is measured, and how.

    Returns:
        The results, and the title of each ablation's row, for `paper.tables`.

    Raises:
        ValueError: as `evaluate`, and if a model or palettes cannot be read.
    """
    measuring = prepare(options)
    outputs = outputs or {}
    taken = sorted(set(outputs) & set(paper.ABLATIONS))
    if taken:
        raise ValueError(f"{taken[0]!r} is the name of an ablation; give the output another name.")
    films = davis_films(given.data, given.split)
    rows = {row: find_films(Path(path)) for row, path in outputs.items()}
    measuring.check(find_clips(films, rows, options.resize))
    sources = _sources(given, films)
    titles = {row: title for row, title in paper.ABLATIONS.items() if row in sources}
    if not given.checkpoint_a:
        titles["A"] = paper.NULL
    for row in titles:
        rows[row] = _color(row, sources[row], films, given)
    results = measuring.run(find_clips(films, rows, options.resize))
    results.about["ablations"] = {
        row: {
            "title": title,
            "checkpoint": str(sources[row].checkpoint),
            "weights_sha256": file_hashes(sources[row].checkpoint),
        }
        for row, title in titles.items()
    }
    results.about |= {"data": str(given.data), "split": given.split, "seed": given.seed}
    results.about["settings"] = dict(PLAIN | given.settings)
    return results, titles


def _color(row: str, source: ablations.Row, films: Films, given: PaperOptions) -> Films:
    model = load_model(source.checkpoint)
    settings = default_settings(model.config, **PLAIN | given.settings)
    return ablations.sample_row(films, model, settings, source, given.workdir / row, given.seed)


def _sources(given: PaperOptions, films: Films) -> dict[str, ablations.Row]:
    """Return the model, palettes and references of each ablation that can be colored."""
    load_model(given.checkpoint, ())  # report a wrong folder before its mixture is missed
    mixture = gmm.load(given.mixture or given.checkpoint / "mixture.json")
    model = given.checkpoint
    sources = {
        "A": ablations.Row(given.checkpoint_a or model, lambda name, film, seed: None),
        "B": ablations.Row(model, lambda name, film, seed: gmm.sample(mixture, seed)),
        "D": ablations.Row(model, ablations.first_frame, ablations.first_reference),
    }
    try:
        sources["C"] = ablations.Row(model, _words(given, list(films)))
    except ValueError as error:
        if given.palettes:
            raise
        cli.print_line(f"row C is omitted; give --palettes FILE.json for it ({error})", sys.stderr)
    return sources


def _words(given: PaperOptions, clips: list[str]) -> ablations.PaletteOf:
    """Return ablation C's palettes, from a file or from the words of a tagger.

    Raises:
        ValueError: if there is neither a file nor a tagger.
    """
    if given.palettes:
        palettes = paper.load_palettes(given.palettes, clips)
        return lambda name, film, seed: palettes[name]
    tagger, tagger_name = load_tagger(given.tagger, given.checkpoint)
    propose = given.make_proposer()

    def palette_of(name: str, path: Path, seed: int) -> Palette:
        film = open_film(path)
        shots = [(0, count_frames(film))]
        return words.from_words("", propose, lambda: (tag_film(film, shots, tagger), tagger_name))

    return palette_of
