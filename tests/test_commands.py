"""`palette-vc`: names, help, and the scripts that stand for one command each."""

import subprocess
import sys
from pathlib import Path

import pytest

from palette_vc_jax.commands import main
from tests.commands import command

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [
    "sample.py",
    "train.py",
    *(f"convert/{path.name}" for path in (ROOT / "convert").glob("*.py")),
]
ASK_ALL = f"""
import sys
from palette_vc_jax.commands import main
for name in {list(main.COMMANDS)}:
    try:
        main.main([name, "--help"])
    except SystemExit as end:
        assert not end.code, name
heavy = set("av cv2 flax jax orbax sklearn tensorflow torch".split())
print("loaded:", sorted(heavy & set(sys.modules)))
"""


def _run(*given: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    line = [sys.executable, *map(str, given)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True)


def test_help_answers_at_once():
    """If this fails, --help of some command fails, or loads what takes seconds to import."""
    done = _run("-c", ASK_ALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("loaded: []\n")
    for name in main.COMMANDS:
        assert f"usage: palette-vc {name} " in done.stdout


def test_all_commands_are_listed():
    """If this fails, a user cannot find a command."""
    done = _run("-m", "palette_vc_jax", "--help")
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == list(main.COMMANDS)
    assert _run("-m", "palette_vc_jax", "--version").stdout.startswith("palette-vc 0.")


@pytest.mark.parametrize("given", [["smaple"], [], ["--input", "a.mp4"]])
def test_unknown_names_are_refused_in_one_line(capsys, given):
    """If this fails, a mistyped name ends in a traceback, or does not say which names there are."""
    assert command(main.main, *given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(name in line for name in [*given[:1], *main.COMMANDS])


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_run_from_any_folder(tmp_path, script):
    """If this fails, the commands of the README work inside of the checkout alone."""
    done = _run(ROOT / script, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"usage: {Path(script).name}" in done.stdout
