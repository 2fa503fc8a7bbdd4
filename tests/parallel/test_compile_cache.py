"""Where compiled programs are kept."""

import jax
import pytest

from palette_vc_jax.parallel.compile_cache import use_compile_cache


@pytest.fixture(autouse=True)
def _config(monkeypatch, tmp_path):
    """Let JAX keep programs, as outside of tests, and restore its settings."""
    names = ("enable_compilation_cache", "compilation_cache_dir", "compilation_cache_max_size")
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    jax.config.update("jax_enable_compilation_cache", True)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_the_users_cache_folder(tmp_path, monkeypatch):
    """If this fails, each command compiles again, or ignores the folder that it is given."""
    folder = use_compile_cache()
    assert folder.parent == tmp_path / "cache" / "palette_vc_jax" and folder.is_dir()
    assert jax.config.jax_compilation_cache_dir == str(folder)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    assert use_compile_cache() == tmp_path / "own"
    assert use_compile_cache(str(tmp_path / "given")) == tmp_path / "given"
    assert use_compile_cache("none") is None and not jax.config.jax_enable_compilation_cache


def test_a_program_without_a_time_of_use_stops_no_other(tmp_path):
    """If this fails, no program is kept after the disk was full once, or beside another JAX's."""
    names = {"whole-cache", "whole-atime", "part-cache", ".lockfile"}
    for folder in (use_compile_cache(), tmp_path):
        for name in names:
            (folder / name).write_text("")
    folder = use_compile_cache()
    assert {path.name for path in folder.iterdir()} == names - {"part-cache"}
    use_compile_cache(str(tmp_path))
    time = int.from_bytes((tmp_path / "part-atime").read_bytes(), "little")
    assert time == (tmp_path / "part-cache").stat().st_mtime_ns


def test_an_address_is_left_to_jax(tmp_path, monkeypatch):
    """If this fails, programs for a bucket land in a local folder of its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "gs://bucket/folder")
    assert use_compile_cache() is None and not any(tmp_path.iterdir())
    assert jax.config.jax_compilation_cache_dir == "gs://bucket/folder"


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path):
    """If this fails, a read-only home stops every command."""
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="the next run compiles again; give --compile_cache"):
        assert use_compile_cache(str(tmp_path / "file" / "folder")) is None
