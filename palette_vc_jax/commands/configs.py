"""Find the bundled training configs, in a checkout or in an installed package."""

from pathlib import Path

import palette_vc_jax

PACKAGE = Path(palette_vc_jax.__file__).parent


def config_path(name: str) -> Path:
    """Return the file of a config, such as `davis`.

    Raises:
        ValueError: if there is no config of that name.
    """
    path = folder() / f"{name}.py"
    if not name.isidentifier() or not path.is_file():
        known = ", ".join(config_names())
        raise ValueError(f"config {name!r} is not known; use one of {known}, or give a .py file.")
    return path


def config_names() -> list[str]:
    """Return the names that `config_path` knows."""
    files = folder().glob("*.py")
    return sorted(path.stem for path in files if "def get_config(" in path.read_text())


def folder() -> Path:
    """Return the folder of configs: a wheel has it inside of the package, a checkout beside it."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"
