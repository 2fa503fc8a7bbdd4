"""The floors of the package: who may import whom. A wrong import here rots the whole structure."""

import ast
import functools
from pathlib import Path

import palette_vc_jax

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "palette_vc_jax"

# The parts of the package, from the ground up. A part imports only from lines below its own:
# strictly downward, never sideways and never up.
FLOORS = (
    {"atomic", "files", "pixels"},
    {"images", "signals"},  # on floor 0 too
    {"cli"},  # on floor 0 too
    {"video", "palette", "diffusion", "parallel"},
    {"checkpoint"},  # on floor 1 too; the one file there, so it may import its folders
    {"models"},
    {"sampling", "metrics", "data", "conversion"},
    {"training", "evaluation", "parity", "studio"},
    {"commands"},
)
HEIGHTS = {part: height for height, parts in enumerate(FLOORS) for part in parts}
# `__init__` loads the public names lazily, and holds the version and the demo model's place;
# `__main__` runs commands, as the scripts do.
OUTSIDE = {"__init__", "__main__"}
SCRIPTS = sorted([*ROOT.glob("*.py"), *ROOT.glob("convert/*.py")])
ABOVE = {"benchmarks", "configs", "convert", "evaluate", "sample", "tests", "train"}

# Library -> files or folders that may import it; the others have to work without it.
ONLY_IN = {
    "orbax": {"checkpoint.py"},
    "torch": {
        "parity",
        "metrics/networks/convert.py",
        "sampling/pretrained_tagger.py",
        "conversion/text_tower.py",
    },
    "diffusers": {"parity"},
    "transformers": {"parity", "sampling/pretrained_tagger.py", "conversion/text_tower.py"},
    "tensorflow": set(),
    "argparse": {"commands"},
    "starlette": {"studio"},
    "uvicorn": {"studio"},
    # Those that use the network: with transformers above, no others.
    "huggingface_hub": {"conversion/hub.py"},
    "openai": {"palette/language_model.py"},
    "aiohttp": set(),
    "http.client": set(),
    "httpx": set(),
    "requests": set(),
    "urllib.request": set(),
    "urllib3": set(),
}


def imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import; write the whole name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts(path: Path) -> set[str]:
    """Return the parts of the package that a file imports; `__init__` for what it holds itself.

    Commands and scripts may import the public names from it, which come from floors below.
    """
    names = [name.split(".") for name in imports(path)]
    found = {name[1] for name in names if name[0] == "palette_vc_jax" and len(name) > 1}
    own = {"__version__", "DEMO"}
    if "commands" in path.parts:
        own |= set(palette_vc_jax.__all__)
    return {"__init__" if name in own else name for name in found}


@functools.cache
def violations() -> set[tuple[str, str]]:
    """Return all that is against the tables above: (file, part or library)."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        file = path.relative_to(PACKAGE)
        part = file.with_suffix("").parts[0]
        if part not in OUTSIDE:
            for other in parts(path) - OUTSIDE - {part}:
                if HEIGHTS[other] >= HEIGHTS[part]:
                    found.add((str(file), other))
        for name in imports(path):
            if name.split(".")[0] in ABOVE:
                found.add((str(file), name))
            for library, places in ONLY_IN.items():
                if f"{name}.".startswith(f"{library}.") and not places & {str(file), part}:
                    found.add((str(file), library))
    for path in SCRIPTS:
        if parts(path) - {"cli", "commands"} or "argparse" in imports(path):
            found.add((str(path.relative_to(ROOT)), "script"))
    return found


def test_every_part_has_a_floor():
    """If this fails, a new file or folder is missing in the table, and so may import anything."""
    names = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or [*p.glob("*.py")]}
    assert names - OUTSIDE <= set(HEIGHTS)


def test_imports_go_down_and_libraries_stay_in_their_places():
    """If this fails, a part imports one beside or above it, or a library that is not its own."""
    assert sorted(violations()) == []
