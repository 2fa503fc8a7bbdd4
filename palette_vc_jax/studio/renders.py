"""Color films in the background, one at a time, each in a process of its own.

A render runs `palette-vc sample --plan`, with a copy of the plan beside the output. Its record,
`OUTPUT.render.json`, is beside the output too, so that a server that was killed finds its renders
again. The same command then goes on where it was stopped.
"""

import contextlib
import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from palette_vc_jax import atomic, cli, files
from palette_vc_jax.sampling.plan_file import write_shots
from palette_vc_jax.studio.folders import Folders
from palette_vc_jax.studio.project import Project

VERSION = 1
RECORD = ".render.json"
FORMATS = {"mp4": ["--playable"], "mkv": [], "mov": []}  # extension -> flags of `sample`
IMAGE = "png"  # what an image is rendered to
EXTENSIONS = {f".{extension}" for extension in (*FORMATS, IMAGE)}
ENDED = ("done", "failed", "canceled")
GRACE = 20.0  # seconds that a process gets to end after SIGTERM
BUSY = "another run is writing"  # `atomic` says so while the process of a killed server ends
TRIES = 15  # with a second between them, while that process ends
# The terminal becomes the child's own, so that it gets SIGHUP if the server is killed, also under
# nohup.
LAUNCH = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(2, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
# A line of tqdm: "coloring:  42%|####  | 21/50 [00:03<00:04,  7.2frame/s]".
PROGRESS = re.compile(r"([a-z][a-z ]*):.*?(\d+)/(\d+) \[[^<\]]*<([^,\]]+)")


@dataclass
class Render:
    """A film that is colored, or was, or will be."""

    number: int
    film: Path
    output: Path
    state: str = "waiting"  # or running, or one of `ENDED`
    message: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen | None = None

    @property
    def plan(self) -> Path:
        """Return the copy of the plan."""
        return self.output.with_suffix(".plan.json")

    @property
    def record(self) -> Path:
        """Return the file that describes the render."""
        return self.output.with_name(f"{self.output.name}{RECORD}")

    def describe(self) -> dict[str, Any]:
        """Return what the page shows."""
        return {
            "id": self.number,
            "film": self.film.name,
            "output": self.output.name,
            "state": self.state,
            "message": self.message,
            **self.progress,
        }


class Renders:
    """The renders, in the order in which they are done.

    Args:
        folders: that may be read and written.
        flags: flags of `sample`, which name the model.
    """

    def __init__(self, folders: Folders, flags: Sequence[str]) -> None:
        self._folders = folders
        self._flags = flags
        self._renders: list[Render] = []
        self._changed = threading.Condition()
        self._closing = False
        self._claimed: list[BinaryIO] = []  # plans of renders, locked
        for path in folders.records(RECORD):
            self._find(path)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(self, project: Project, extension: str) -> Render:
        """Queue a render of the plan as it is now.

        Raises:
            ValueError: if the extension is not known.
        """
        film = project.plan.film
        if film.kind == "image":
            extension = IMAGE
        elif extension not in FORMATS:
            raise ValueError(f"format {extension!r} is not known; use one of {', '.join(FORMATS)}.")
        with self._changed:
            output = self._free(film.path, extension)
            render = Render(len(self._renders), film.path, output)
            write_shots(render.plan, film, project.shots, project.named)
            self._claim(render)
            self._set(render, "waiting")
            self._renders.append(render)
            self._changed.notify_all()
        return render

    def cancel(self, number: int) -> None:
        """Stop a render; what it has finished is kept."""
        with self._changed:
            render = self._get(number)
            if render.state == "waiting":
                self._set(render, "canceled")
            elif render.state == "running":
                if render.process is not None:
                    render.process.terminate()
                self._set(render, "canceled")

    def resume(self, number: int) -> None:
        """Queue a render again that was canceled or has failed."""
        with self._changed:
            render = self._get(number)
            if render.state in ("canceled", "failed"):  # its process may still be ending
                self._set(render, "waiting")

    def output(self, number: int) -> Path:
        """Return the film of a render that is done.

        Raises:
            ValueError: if there is none.
        """
        render = self._get(number)
        if render.state != "done" or not render.output.is_file():
            raise ValueError(f"{render.output.name} is not complete.")
        return self._folders.check(render.output)

    def describe(self) -> list[dict[str, Any]]:
        """Return what the page shows of all renders."""
        with self._changed:
            return [render.describe() for render in self._renders]

    def close(self) -> None:
        """Stop the render that runs; the next server goes on with it."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            for render in self._renders:
                if render.process is not None:
                    render.process.terminate()
        self._thread.join(GRACE)
        for stream in self._claimed:
            stream.close()

    def _find(self, path: Path) -> None:
        """Add the render that a record describes, if it is one of this program."""
        try:
            values = files.read_json(path)
            film, output = path.with_name(values["film"]), path.with_name(values["output"])
            render = Render(len(self._renders), film, output, values["state"])
            render.message = str(values.get("message", ""))
            for one in (film, output, render.plan):
                self._folders.check(one)
        except (OSError, ValueError, KeyError, TypeError):
            return
        is_own = values.get("version") == VERSION and render.record == path
        is_known = output.suffix in EXTENSIONS and render.state in (*ENDED, "waiting", "running")
        is_free = output.is_file() if render.state == "done" else self._claim(render)
        if is_own and is_known and is_free:
            if render.state == "running":
                render.state = "waiting"
            self._renders.append(render)

    def _claim(self, render: Render) -> bool:
        """Lock a render's plan; return False if another studio on the same folder holds it.

        The lock ends with this process, so that the next studio goes on with its renders.
        """
        try:
            stream = render.plan.open("rb")
        except OSError:  # which the command reports
            return True
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            return False
        except OSError:  # the file system has no locks
            pass
        self._claimed.append(stream)
        return True

    def _free(self, film: Path, extension: str) -> Path:
        """Return an output beside a film whose name is not taken."""
        number = 1
        while True:
            name = f"{film.stem}.colored{'' if number == 1 else f'-{number}'}"
            path = film.with_name(f"{name}.{extension}")
            taken = film.parent.glob(f"{_literal(name)}.*")
            if next(taken, None) is None:
                return self._folders.check(path)
            number += 1

    def _get(self, number: int) -> Render:
        if not 0 <= number < len(self._renders):
            raise ValueError(f"render {number} is not known.")
        return self._renders[number]

    def _set(self, render: Render, state: str, message: str = "") -> None:
        """Change a render's state and write its record; the lock is held."""
        render.state, render.message, render.progress = state, message, {}
        values = {
            "version": VERSION,
            "film": render.film.name,
            "output": render.output.name,
            "state": state,
            "message": message,
        }
        atomic.write_text(render.record, json.dumps(values, indent=2) + "\n")
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._waiting())
                render = self._waiting()
                if self._closing or render is None:
                    return
                render.state = "running"
            try:
                self._render(render)
            except (OSError, ValueError) as error:  # of the disk, or of too many processes
                with self._changed:
                    render.process, render.state, render.message = None, "failed", str(error)

    def _waiting(self) -> Render | None:
        return next((one for one in self._renders if one.state == "waiting"), None)

    def _render(self, render: Render) -> None:
        """Run the command of a render until it ends."""
        with self._changed:
            if render.state == "running":  # else it was canceled meanwhile
                self._set(render, "running")
        for _ in range(TRIES):
            code, last = self._run(render)
            if code == 0 or BUSY not in last or render.state != "running" or self._closing:
                break
            time.sleep(1.0)
        with self._changed:
            render.process = None
            if self._closing:
                return  # the record says that it was running
            if render.state == "running" or code == 0:
                reason = last or f"the process ended with code {code}; resume the render"
                self._set(render, "done" if code == 0 else "failed", "" if code == 0 else reason)

    def command(self, render: Render) -> list[str]:
        """Return the command of a render, without the interpreter."""
        return [
            "-m", "palette_vc_jax", "sample", "--input", str(render.film),
            "--output", str(render.output), "--plan", str(render.plan),
            *FORMATS.get(render.output.suffix.removeprefix("."), []), *self._flags,
        ]  # fmt: skip

    def _run(self, render: Render) -> tuple[int, str]:
        """Run the command once; return its exit code and the last line that it printed."""
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 200))
        with self._changed:
            if render.state != "running" or self._closing:  # canceled meanwhile
                os.close(ours)
                os.close(theirs)
                return 1, ""
            render.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, *self.command(render)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=theirs,
                start_new_session=True,
            )
        os.close(theirs)
        last = ""
        for line in _lines(ours):
            found = PROGRESS.search(line)
            if found is None:
                last = line
                continue
            stage, done, total, left = found.groups()
            render.progress = {
                "stage": stage, "done": int(done), "total": int(total), "left": left.strip()
            }  # fmt: skip
        os.close(ours)
        return render.process.wait(), last


def _lines(terminal: int) -> Iterator[str]:
    """Yield the lines that are written to a terminal, until its other side is closed."""
    rest = b""
    with contextlib.suppress(OSError):  # Linux raises EIO at the end
        while data := os.read(terminal, 4096):
            *whole, rest = re.split(rb"[\r\n]+", rest + data)
            yield from (text for line in whole if (text := _clean(line)))
    if text := _clean(rest):
        yield text


def _clean(line: bytes) -> str:
    return cli.escaped(line.decode(errors="replace"))


def _literal(name: str) -> str:
    """Return a pattern of `glob` for a name."""
    return re.sub(r"([*?\[])", r"[\1]", name)
