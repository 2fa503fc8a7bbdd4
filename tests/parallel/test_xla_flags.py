"""The flag of XLA for the CPU."""

import os
import subprocess
import sys

import pytest

from palette_vc_jax.parallel import xla_flags

SHOW = """
import jax, jax.numpy as jnp
from palette_vc_jax.commands import main
main._load = lambda name: __import__("types").SimpleNamespace(main=lambda argv: print(
    jax.jit(jnp.dot).lower(*2 * [jnp.ones((512, 512))]).compile().as_text()))
main.run_script("sample")
"""


@pytest.mark.parametrize(
    ("machine", "jaxlib", "given", "expected"),
    [
        ("x86_64", "0.10.2", "--a=1", f"--a=1 {xla_flags.WITHOUT_YNNPACK}"),
        ("x86_64", "0.12.0.1", None, xla_flags.WITHOUT_YNNPACK),
        ("x86_64", "0.10.2", f"{xla_flags.FLAG}=", f"{xla_flags.FLAG}="),
        ("x86_64", "0.10.2", "flags.txt", "flags.txt"),
        ("x86_64", "0.10.2.dev20261101+abc", " ", xla_flags.WITHOUT_YNNPACK),
        ("x86_64", "0.13.0", "--a=1", "--a=1"),
        ("aarch64", "0.10.2", "--a=1", "--a=1"),
    ],
)
def test_the_flag_is_added_where_it_is_known(monkeypatch, machine, jaxlib, given, expected):
    """If this fails, a flag of the user is lost, or a flag that is not known ends the process."""
    monkeypatch.setattr(xla_flags.platform, "machine", lambda: machine)
    monkeypatch.setattr(xla_flags, "version", lambda name: jaxlib)
    monkeypatch.delenv("XLA_FLAGS")
    if given is not None:
        monkeypatch.setenv("XLA_FLAGS", given)
    xla_flags.set_xla_flags()
    assert os.environ["XLA_FLAGS"] == expected


def test_commands_compute_products_without_ynnpack():
    """If this fails, commands are up to twice as slow on x86 CPUs."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    del environment["XLA_FLAGS"]
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True
    )
    assert "dot(" in done.stdout and "ynn" not in done.stdout
