"""What Ctrl-C, SIGTERM and SIGHUP do to a command: they end it, and nothing half-made is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from palette_vc_jax import signals

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"started", "listening", "slow.py", "__pycache__"}
HEAD = """
import gc, hashlib, os, signal, sys, time
from pathlib import Path
from palette_vc_jax import atomic, cli, signals

def started():
    Path("started").touch()

def kill():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(100):
        pass
"""
WRITE = """
def main():
    with atomic.file(Path("out.mkv")) as partial, atomic.folder(Path("frames")) as frames:
        partial.write_text("half")
        (frames / "0.png").write_text("half")
        started()
        {work}
"""


def start(folder, body, sign="started"):
    """Start a script of a command in `folder`, and wait until it has made a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{HEAD}\n{body}\ncli.run(main)"],
        cwd=folder,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        if (folder / sign).exists() or process.poll() is not None:
            return process
        time.sleep(0.05)
    raise TimeoutError


def end(process, folder, code, said):
    """Check how a process ends, and that nothing is left of what it wrote."""
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.splitlines()) == (code, said)
    assert {path.name for path in folder.iterdir()} <= NAMES


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "stopped."),
        (signal.SIGTERM, 143, "stopped by SIGTERM."),
        (signal.SIGHUP, 129, "stopped by SIGHUP."),
    ],
)
def test_a_signal_removes_partial_files(tmp_path, number, code, said):
    """If this fails, a scheduler or a closed terminal leaves hidden files of many gigabytes."""
    process = start(tmp_path, WRITE.format(work="time.sleep(60)"))
    process.send_signal(number)
    end(process, tmp_path, code, [said])


def test_a_second_signal_ends_work_that_cannot_be_interrupted(tmp_path):
    """If this fails, Ctrl-C cannot end a compilation of minutes, or leaves half a film."""
    work = "signals.HINT = 0.01; hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    process = start(tmp_path, WRITE.format(work=work))
    process.send_signal(signal.SIGINT)
    line = process.stderr.readline()
    assert "press Ctrl-C again" in line
    process.send_signal(signal.SIGINT)
    end(process, tmp_path, 130, ["stopped."])


def test_a_second_signal_ends_training(tmp_path):
    """If this fails, Ctrl-C cannot end training that compiles, or that waits for its checkpoint."""
    work = """
        from palette_vc_jax.training import preemption
        with preemption.listening():
            Path("listening").touch()
            hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"""
    process = start(tmp_path, "signals.HINT = 0.01\n" + WRITE.format(work=work), "listening")
    process.send_signal(signal.SIGINT)
    assert "press Ctrl-C again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    end(process, tmp_path, 130, ["stopped."])


def test_sigterm_ends_work_that_cannot_be_interrupted(tmp_path):
    """If this fails, a scheduler kills the command, and half a film stays on the disk."""
    work = "signals.GRACE = 0.1; hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    process = start(tmp_path, WRITE.format(work=work))
    process.send_signal(signal.SIGTERM)
    end(process, tmp_path, 143, ["stopped by SIGTERM."])


SWALLOWED = {
    "in a callback of the garbage collector": """
        once = [1]
        gc.callbacks.append(lambda *_: once and (once.pop(), kill()))
        gc.collect()
        time.sleep(60)""",
    "by a finalizer": """
        class Thing:
            __del__ = lambda self: kill()
        Thing()
        time.sleep(60)""",
    "while a module is imported": """
        Path("slow.py").write_text("import os; os.kill(os.getpid(), 2)")
        sys.path.insert(0, "")
        try:
            import slow
        except BaseException:
            time.sleep(60)""",
    "by a library that catches everything": """
        with cli.reporting("coloring", "frame") as report:
            for index in range(600):
                try:
                    index or kill()
                except BaseException:
                    pass
                report(index, 600)
                time.sleep(0.1)""",
    "by a library that raises another error": """
        try:
            kill()
        except BaseException:
            raise ImportError("cannot import name x") from None""",
}


@pytest.mark.parametrize("how", SWALLOWED)
def test_ctrl_c_is_not_lost(tmp_path, how):
    """If this fails, Ctrl-C in the first seconds prints a traceback and the run goes on."""
    process = start(tmp_path, WRITE.format(work=SWALLOWED[how]))
    end(process, tmp_path, 130, ["stopped."])


def test_the_echo_of_a_signal_during_an_import_is_ignored(monkeypatch):
    """If this fails, Ctrl-C at the start of a command is reported twice, in one line."""
    ended = []
    monkeypatch.setattr(signals, "leave", ended.append)
    code = SimpleNamespace(co_filename="<frozen importlib._bootstrap>")
    importing = SimpleNamespace(f_code=code, f_back=None)
    found = signals.Signals()
    with pytest.raises(signals.Terminated):  # where `leave` would have ended the process
        found.handle(signal.SIGINT, importing)
    found.handle(signal.SIGINT, importing)
    assert ended == [signal.SIGINT]


def test_nohup_is_respected(tmp_path):
    """If this fails, a run under nohup ends when its terminal is closed."""
    body = WRITE.format(work="os.kill(os.getpid(), signal.SIGHUP); time.sleep(0.1)")
    ignore = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process = start(tmp_path, ignore + body)
    assert process.wait(30) == 0 and (tmp_path / "out.mkv").exists()
    process.stderr.close()
