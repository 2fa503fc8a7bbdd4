"""Measure colored films against the truth: `python evaluate.py --reference DIR --output DIR`.

With `--checkpoint` and `--data`, color the clips of `--data` first, with the palettes of the
paper's ablations, and print its tables I and II.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

from palette_vc_jax.commands import flags


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--reference",
        type=flags.path,
        help="the truth: a folder of films or of frame folders, or one film",
    )
    add(
        "--output",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="films to measure, with the names of the reference's; may be repeated",
    )
    add("--metrics", help="names of metrics, separated by commas (all)")
    add(
        "--weights",
        type=flags.path,
        help="folder of the networks' weights, see convert/metric_weights.py",
    )
    add(
        "--json",
        type=flags.path,
        default=Path("evaluation.json"),
        help="JSON file to write (%(default)s)",
    )
    add("--overwrite", action="store_true", help="replace a --json file that exists")
    add(
        "--flow",
        type=flags.path,
        help="folder of CLIP/forward/*.flo and CLIP/backward/*.flo between the truth's frames, for "
        "the warp error (computed by default)",
    )
    add("--resize", action="store_true", help="resize outputs to the reference's size")
    group = parser.add_argument_group("the paper's tables")
    add = group.add_argument
    add("--tables", action="store_true", help="print tables I and II, as --checkpoint does")
    add("--checkpoint", type=flags.path, help="model folder to color with")
    add("--data", type=flags.path, help="DAVIS 2017 or a folder of films, instead of --reference")
    add("--split", default="val", help="name of a list of DAVIS' clips (%(default)s)")
    add("--checkpoint_a", type=flags.path, help="model trained without palettes, for row A")
    add("--palettes", type=flags.path, help="JSON from clips to colors, for row C (from tags)")
    add("--mixture", type=flags.path, help="mixture for row B (the model's own)")
    add(
        "--workdir",
        type=flags.path,
        default=Path("runs/evaluation"),
        help="folder of the colored films (%(default)s)",
    )
    add("--seed", type=int, default=0, help="seed of the first clip; that of the n-th is SEED + n")
    flags.add_words_flags(parser)
    flags.add_settings(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measure the films that the command line names."""
    args = parse(argv)
    # Import here so that --help and errors in flags are fast.
    from palette_vc_jax.evaluation import EvaluationOptions
    from palette_vc_jax.metrics.networks import weights
    from palette_vc_jax.parallel.compile_cache import use_compile_cache
    from palette_vc_jax.parallel.processes import check_one_host

    check_one_host()
    use_compile_cache(args.compile_cache)
    outputs = _outputs(args.output)
    options = EvaluationOptions(
        metrics=_names(args.metrics),
        weights=args.weights or weights.FOLDER,
        flow=args.flow,
        resize=args.resize,
    )
    if args.checkpoint or args.data or args.tables:
        for flag in ("checkpoint", "data"):
            if not getattr(args, flag):
                raise ValueError(
                    f"--{flag} is missing; the paper's tables need --checkpoint MODEL and --data "
                    "DAVIS, or a folder of films in color."
                )
        _print_paper(args, outputs, options)
    elif settings := [name for name in ("preset", *flags.settings_of(args)) if name in args]:
        raise ValueError(f"--{settings[0]} is a setting of coloring; give --checkpoint and --data.")
    elif args.reference and outputs:
        _print_comparison(args, outputs, options)
    else:
        raise ValueError("give --reference DIR and --output DIR, or --checkpoint DIR --data DIR.")


def _print_comparison(args: argparse.Namespace, outputs: dict[str, Path], options: Any) -> None:
    from palette_vc_jax.evaluation import evaluate, films, record, text_table

    record.check_record(args.json, args.overwrite)
    found = [films.find_films(path) for path in (args.reference, *outputs.values())]
    record.check_inputs(args.json, found)
    results = evaluate(args.reference, outputs, options)
    print(text_table(results))
    record.write_record(args.json, results)


def _print_paper(args: argparse.Namespace, outputs: dict[str, Path], options: Any) -> None:
    from palette_vc_jax.evaluation import films, paper, record, text_table
    from palette_vc_jax.evaluation.reproduction import PaperOptions, reproduce
    from palette_vc_jax.parallel.device_memory import use_most_memory

    use_most_memory()
    record.check_record(args.json, args.overwrite)
    found = [films.find_films(path) for path in outputs.values()]
    found.append(films.davis_films(args.data, args.split))
    read = [args.mixture or args.checkpoint / "mixture.json", *flags.named_files(args)]
    read += [args.palettes] if args.palettes else []
    record.check_inputs(args.json, found, read)
    given = PaperOptions(
        checkpoint=args.checkpoint,
        data=args.data,
        split=args.split,
        checkpoint_a=args.checkpoint_a,
        palettes=args.palettes,
        tagger=args.tagger,
        make_proposer=functools.partial(flags.proposer_of, args),
        workdir=args.workdir,
        seed=args.seed,
        mixture=args.mixture,
        settings=flags.settings_of(args),
    )
    results, titles = reproduce(given, outputs, options)
    print(text_table(results))
    print()
    print(paper.tables(results, titles))
    record.write_record(args.json, results)


def _names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]


def _outputs(texts: list[str]) -> dict[str, Path]:
    outputs = dict(map(_named, texts))
    if len(outputs) < len(texts):
        raise ValueError("two outputs have one name; give --output NAME=DIR with different names.")
    return outputs


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if equals and not Path(text).exists():
        return name, Path(path)
    return Path(text).resolve().name, Path(text)
