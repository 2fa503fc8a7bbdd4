"""The floors of the package: who may import whom. A wrong import here rots the whole structure."""

import ast
from pathlib import Path

import pytest

import palette_vc_jax

PACKAGE = Path(__file__).resolve().parents[1] / "palette_vc_jax"
FLOORS = [
    {"parallel"},
    {"video", "palette", "models", "diffusion"},
    {"sampling", "data", "metrics", "checkpoint", "conversion"},
    {"training", "parity"},
    {"commands"},
]
FLOOR_OF = {name: height for height, names in enumerate(FLOORS) for name in names}
# cli is for entry points; the package itself holds the version and the demo model's place
EVERYWHERE = {"cli", "atomic", "files", "images", "__init__", "__version__", "DEMO"}
ENTRY_POINTS = {"__main__.py"}  # on top of all floors, as the scripts are
ONLY_IN = {
    "orbax": {"checkpoint"},
    "argparse": {"commands", "metrics/comparison.py"},
    "torch": {"parity", "sampling/pretrained_tagger.py", "conversion/text_tower.py"},
    "diffusers": {"parity"},
    # an optional extra in sampling and conversion
    "transformers": {"parity", "sampling/pretrained_tagger.py", "conversion/text_tower.py"},
    "tensorflow": set(),
    "openai": {"palette/language_model.py"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_one_way(path):
    """If this fails, a floor knows one above it, or two parts of the ground know each other."""
    part = _part(path)
    if part in EVERYWHERE or str(path.relative_to(PACKAGE)) in ENTRY_POINTS:
        return
    for name in _imports(path):
        if not name.startswith("palette_vc_jax."):
            continue
        other = name.split(".")[1]
        if part == "commands" and other in palette_vc_jax.__all__:
            continue
        if other == part or other in EVERYWHERE:
            continue
        assert other in FLOOR_OF, f"{other} has no floor yet: give it one in FLOORS"
        below = FLOOR_OF[other] < FLOOR_OF[part]
        beside = FLOOR_OF[other] == FLOOR_OF[part] > 0
        assert below or beside, f"{part} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_their_places(path):
    """If this fails, coloring a film would need what only training or parity checks need."""
    for name in _imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        places = {_part(path), str(path.relative_to(PACKAGE))}
        assert allowed is None or places & allowed, f"{_part(path)} imports {name}"
