"""XLA's compiled programs on disk, so that a second run of a command does not compile again."""

import contextlib
import hashlib
import os
import platform
import warnings
from pathlib import Path

import jax

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
OFF = "none"
MAX_BYTES = 4 * 2**30  # the programs that were not used for longest are deleted


def use_compile_cache(folder: str | None = None) -> Path | None:
    """Let JAX keep compiled programs in a folder, which is made if needed; return the folder.

    Args:
        folder: a path; `none` for no cache; None for `JAX_COMPILATION_CACHE_DIR`, or else a folder
            in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`). An address such as
            gs://bucket/folder is left to JAX.

    Returns None without a folder here. A folder that cannot be written is reported in a warning,
    because the command works without it.
    """
    if folder == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
    if not getattr(jax.config, "jax_enable_compilation_cache"):  # noqa: B009
        return None
    given = folder or os.environ.get(VARIABLE) or ""
    if "://" in given:
        jax.config.update("jax_compilation_cache_dir", given)
        return None
    path = Path(given or _default()).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        writable = os.access(path, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        warnings.warn(
            f"{path}: compiled programs cannot be kept there, so the next run compiles again; give "
            "--compile_cache a folder that can be written, or none.",
            stacklevel=2,
        )
        return None
    with contextlib.suppress(OSError):  # another run may be removing programs
        _repair(path, is_own=not given)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    return path


def _repair(path: Path, is_own: bool) -> None:
    """Let every program have a time of use, without which JAX keeps no further program.

    JAX writes it after the program. Where it is missing from this package's own folder, a run has
    written the program in part, as on a full disk: JAX would read it in vain for ever, and it is
    removed. In another folder it may be of a JAX that limits no cache, which writes no times.
    """
    for program in path.glob("*-cache"):
        used = program.with_name(f"{program.name.removesuffix('-cache')}-atime")
        if not used.exists():
            if is_own:
                program.unlink()
            else:
                used.write_bytes(program.stat().st_mtime_ns.to_bytes(8, "little"))


def _default() -> Path:
    """Return a folder for this kind of machine: a home may be shared by machines that differ.

    Programs for the CPU use the instructions of the processor that they were compiled on.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return home / "palette_vc_jax" / f"xla-{hashlib.sha256(_processor()).hexdigest()[:8]}"


def _processor() -> bytes:
    """Describe the processor: on Linux the kernel lists what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}".encode()
    kinds = (b"flags", b"Features", b"model name")
    return b"\n".join(sorted({line for line in lines if line.startswith(kinds)}))
