"""The lists of requirements agree, and what the package needs at run time is found."""

import re
import runpy
import subprocess
import tomllib
from pathlib import Path

import pytest

import palette_vc_jax
from palette_vc_jax.training import config

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def _requirements(name: str) -> set[str]:
    """Read a requirements file, and the ones that it includes."""
    found = set()
    for line in (ROOT / name).read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            found |= _requirements(line.removeprefix("-r "))
        elif line:
            found.add(line)
    return found


def _extra(name: str) -> set[str]:
    """Return what an extra installs, with the extras that it includes."""
    found = set()
    for line in EXTRAS[name]:
        if own := re.fullmatch(r"palette_vc_jax\[(.+)\]", line):
            found |= set().union(*map(_extra, own[1].split(",")))
        else:
            found.add(line)
    return found


def test_requirements_files_repeat_the_project():
    """If this fails, `pip install .` and `make demo` install different versions."""
    assert _requirements("requirements.txt") == set(PROJECT["dependencies"])
    for name in ("words", "tagger", "studio", "dev"):
        assert _requirements(f"requirements-{name}.txt") == _extra(name)


def test_every_requirement_has_an_upper_bound():
    """If this fails, a new major release of a library breaks an installation unseen."""
    for line in [*PROJECT["dependencies"], *_extra("dev")]:
        assert re.search(r",<\d", line), line


def test_changelog_and_citation_name_the_version():
    """If this fails, a release is described under another version's name."""
    version = palette_vc_jax.__version__
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_make_names_what_debian_lacks(tmp_path):
    """If this fails, `make demo` without python3-venv ends in ten lines, or half an environment."""
    (tmp_path / "requirements.txt").touch()
    done = subprocess.run(
        ["make", "-f", ROOT / "Makefile", "demo", "PYTHON=false"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode and "apt install python3-venv" in line
    assert not (tmp_path / ".venv").exists()


def test_configs_are_found_by_name(tmp_path, monkeypatch):
    """If this fails, `palette-vc train --config davis` works in the checkout alone, or nowhere."""
    assert config.find("davis") == ROOT / "configs" / "davis.py"
    assert {"davis", "demo"} <= set(config.names())
    with pytest.raises(ValueError, match="'dvais' is not known; use one of .*davis"):
        config.find("dvais")
    installed = tmp_path / "palette_vc_jax"
    (installed / "configs").mkdir(parents=True)
    (installed / "configs" / "mine.py").touch()
    (tmp_path / "configs").mkdir()  # of another package
    (tmp_path / "configs" / "davis.py").touch()
    monkeypatch.setattr(config, "PACKAGE", installed)
    assert config.find("mine") == installed / "configs" / "mine.py"
    with pytest.raises(ValueError, match="not known"):
        config.find("davis")


@pytest.mark.parametrize("name", config.names())
def test_every_name_is_a_config(name):
    """If this fails, a name is offered that train.py cannot use."""
    assert "get_config" in runpy.run_path(str(config.find(name)))
