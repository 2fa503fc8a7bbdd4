"""Color a film: `python sample.py --input FILM --output OUT`."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from palette_vc_jax import DEMO, cli
from palette_vc_jax.commands import flags

if TYPE_CHECKING:  # functions import these themselves, so that --help is fast
    from palette_vc_jax import Model

EXTENSIONS = (".mkv", ".mov", ".mp4")  # of films that a batch writes


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add(
        "--input",
        required=True,
        nargs="+",
        help="film, folder of frames, image, or - for standard input; several of them, or a folder "
        "of films, are a batch",
    )
    add(
        "--output",
        help=".mp4 (H.264, or HEVC for HDR), .mkv (FFV1, with exactly the source's luma), .mov "
        "(ProRes), .png or .jpg for an image, a folder for PNG frames, or .y4m or - for Y4M on "
        "standard output; of a batch, a folder for the films",
    )
    add(
        "--extension",
        default=".mkv",
        choices=EXTENSIONS,
        help="extension of the films that a batch writes",
    )
    add("--overwrite", action="store_true", help="replace the output of another run")
    add(
        "--checkpoint",
        default=str(DEMO),
        help="folder of a converted or trained model, or the --workdir of a run",
    )
    flags.add_run_weights(parser)
    add(
        "--palette",
        default=argparse.SUPPRESS,
        help="auto (the default: the model's own colors of a few frames, made as colorful as its "
        'training film), image:PATH, gmm[:SEED], "#rrggbb,tomato,..." (1 to 5 colors), '
        "rrggbb-rrggbb-... or a link of coolors.co, file:PALETTE (.json, .ase, .aco, .gpl or "
        '.hex), words:"autumn, a red tram, ..." (the usual colors of things), words '
        "(of the things in the film) or none",
    )
    add(
        "--region",
        action="append",
        default=[],
        metavar="MASK=SPEC",
        help="a part of the picture with a palette of its own, several times: MASK is "
        "x,y,w,h@POSITION (pixels), IMAGE@POSITION (white is inside) or a folder with an image "
        "for each frame, SPEC as in --palette; a mask of one frame follows the picture through "
        "its shot; POSITION is a frame's number or a time (120, 4.8s, 1:04.8)",
    )
    add(
        "--keyframe",
        action="append",
        default=[],
        metavar="POSITION=IMAGE",
        help="a frame whose colors are known, several times: the frames around it follow",
    )
    add(
        "--palette_scope",
        choices=("film", "shot"),
        default="film",
        help="whether auto is one palette for the film or one for each shot",
    )
    add(
        "--plan",
        type=flags.path,
        help="plan file: the film's shots, and how each is colored; the flags --palette, --seed "
        "and --reference give what a shot does not name",
    )
    add(
        "--write_plan",
        type=flags.path,
        metavar="FILE",
        help="write a plan file that can be edited, and stop",
    )
    add(
        "--cuts",
        type=flags.path,
        help="file that names the film's cuts in place of finding them: a CSV list of scenes of "
        "PySceneDetect, or an EDL",
    )
    add("--seed", type=int, default=0, help="seed of the noise, and of gmm without SEED")
    add("--luma", choices=("source", "model"), default="source", help="luma of the output")
    flags.add_damaged(parser)
    add(
        "--audio",
        choices=("copy", "aac", "flac", "none"),
        default="copy",
        help="audio of the output: copied, encoded again, or none",
    )
    add(
        "--codec",
        help="h264, hevc, av1, ffv1 or prores; png, tiff, png16 or tiff16 (16 bits) in a folder; "
        "default: that of the extension",
    )
    add(
        "--quality",
        type=float,
        help="constant rate factor of h264 and hevc (0 to 51) and av1 (0 to 63), 0 is best; "
        "default: a PSNR of 45 dB on the luma, also in grain",
    )
    add(
        "--playable",
        action="store_true",
        help="8 bits, 4:2:0, limited range and even sides, as QuickTime and browsers need",
    )
    position = "POSITION, a frame's number or a time"
    add("--start", metavar="POSITION", help=f"where an excerpt begins: {position}; default: 0")
    add("--end", metavar="POSITION", help="where an excerpt ends; this frame is left out")
    add("--frames", type=int, metavar="N", help="length of an excerpt in frames, instead of --end")
    add("--report", action="store_true", help="write a quality report to OUTPUT's .report.html")
    add("--dry_run", action="store_true", help="print the plan as JSON, and stop")
    add(
        "--topology",
        help="compile the networks for hardware that is not there, print the memory that they "
        "need, and stop: a TPU slice or GPUs, such as v5e:2x4, h100:1 or rtx4090:1",
    )
    add("--compile_only", action="store_true", help="what --topology does, which it needs")
    flags.add_words_flags(parser)
    flags.add_settings(parser).add_argument(
        "--reference",
        default=argparse.SUPPRESS,
        help="input of the image tower: gray (each shot's middle frame), image:PATH (a color "
        "image, as in the paper) or none",
    )
    args = parser.parse_args(argv)
    if args.output is None and args.write_plan is None:
        parser.error("the following arguments are required: --output")
    if args.compile_only and args.topology is None:
        parser.error("--compile_only needs --topology, such as v5e:2x4 or h100:1")
    if not hasattr(args, "palette"):
        args.palette = "gmm" if "preset" in args else "auto"
    return args


def main(argv: list[str]) -> None:
    """Color a film, or a batch of films."""
    args = parse(argv)
    from palette_vc_jax import load_model
    from palette_vc_jax.commands.batch import color_batch, list_films
    from palette_vc_jax.commands.coloring import color_one
    from palette_vc_jax.parallel.compile_cache import use_compile_cache
    from palette_vc_jax.parallel.device_memory import use_most_memory
    from palette_vc_jax.parallel.processes import check_one_host
    from palette_vc_jax.video.pipes import PIPE, from_stdin, to_stdout

    if not 0 <= args.seed < 2**32:
        raise ValueError(f"seed {args.seed}; give a whole number from 0 to 2^32 - 1.")
    check_one_host()
    use_compile_cache(args.compile_cache)
    use_most_memory()
    folder = cli.local_path(args.checkpoint, "--checkpoint")
    inputs = [cli.local_path(text, "--input") for text in args.input]
    films = None if args.input == [PIPE] else list_films(inputs)
    run = open_run(folder, args.weights)
    model = run or load_model(folder, ())  # read the weights last, after all checks
    load = functools.cache(lambda: run or load_model(folder))
    output = args.output and cli.local_path(args.output, "--output")
    if films is not None:
        color_batch(args, films, output, model, load)
        return
    only_text = args.dry_run or args.write_plan is not None
    with from_stdin(args.input[0]) as source, to_stdout(args.output, only_text) as piped:
        color_one(args, Path(source), output and Path(piped), model, load)


def open_run(folder: Path, weights: str) -> Model | None:
    """Return the model of a run's newest checkpoint, or None if `folder` is not a run."""
    from palette_vc_jax.training.workdir import has_checkpoints

    if not has_checkpoints(folder):
        return None
    from palette_vc_jax.training import export  # loads what training needs

    return export.open_run(folder, weights)
