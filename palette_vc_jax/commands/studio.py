"""Choose palettes on a film in the browser, and color it: `palette-vc studio FILM`.

The page is served on this machine alone. Its address holds a random token, and requests without it
are refused. The page reads and writes files in the folder of the film and in those of --folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from palette_vc_jax import DEMO
from palette_vc_jax.commands import flags

if TYPE_CHECKING:  # functions import it themselves, so that --help is fast
    from palette_vc_jax import Model

NEEDED = ("starlette", "uvicorn")


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("film", type=flags.path, nargs="?", help="film, folder of frames, or image to open")
    add(
        "--checkpoint",
        type=flags.path,
        default=DEMO,
        help="folder of a converted or trained model, or the --workdir of a run",
    )
    flags.add_run_weights(parser)
    add(
        "--folder",
        type=flags.path,
        nargs="+",
        action="extend",
        default=[],
        help="folders that the page may read and write; without FILM and --folder, this is the "
        "current folder",
    )
    add("--host", default="127.0.0.1", help="address to listen on; others reach 0.0.0.0")
    add("--port", type=int, default=0, help="port to listen on; 0 for any that is free")
    add("--no_browser", action="store_true", help="print the address and open no browser")
    flags.add_compile_cache(parser)
    return parser.parse_args(argv)


def main(argv: list[str]) -> None:
    """Serve the page."""
    args = parse(argv)
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"the studio needs {' and '.join(missing)}; run "
            "`pip install 'palette_vc_jax[studio]'`, or in a checkout "
            "`pip install -r requirements-studio.txt`."
        )
    from palette_vc_jax.parallel.compile_cache import use_compile_cache
    from palette_vc_jax.parallel.processes import check_one_host
    from palette_vc_jax.studio.folders import Folders
    from palette_vc_jax.studio.server import serve

    if not 0 <= args.port < 2**16:
        raise ValueError(f"port {args.port}; give a number from 0 to 65535.")
    if args.film is not None and not args.film.exists():
        raise ValueError(f"{args.film}: no such film; give a film, a folder of frames or an image.")
    # Renders share the GPU with the previews.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    check_one_host()
    use_compile_cache(args.compile_cache)
    own = [args.film.resolve().parent] if args.film is not None else []
    folders = Folders([*own, *args.folder] or [Path.cwd()])
    checkpoint = args.checkpoint.resolve()
    sample = ["--checkpoint", str(checkpoint), "--weights", args.weights]
    if args.compile_cache:
        sample += ["--compile_cache", args.compile_cache]
    serve(
        args.film,
        folders,
        lambda: _load(checkpoint, args.weights),
        sample,
        args.host,
        args.port,
        not args.no_browser,
    )


def _load(checkpoint: Path, weights: str) -> Model:
    """Return a model, or that of a run's newest checkpoint."""
    from palette_vc_jax import load_model
    from palette_vc_jax.commands.sample import open_run

    return open_run(checkpoint, weights) or load_model(checkpoint)
