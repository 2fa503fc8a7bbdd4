"""The server of the page: its routes, and the loop that serves them."""

import asyncio
import functools
import io
import json
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from palette_vc_jax import signals
from palette_vc_jax.models.store import Model
from palette_vc_jax.studio.folders import Folders
from palette_vc_jax.studio.guard import IMAGES, Guard, TooLarge, TooSlow, is_loopback, log
from palette_vc_jax.studio.pictures import THUMBNAIL, jpeg, png
from palette_vc_jax.studio.project import Stale
from palette_vc_jax.studio.proposals import described
from palette_vc_jax.studio.renders import Renders
from palette_vc_jax.studio.session import Session

MAX_CONNECTIONS = 512  # the guard bounds the requests that are answered at the same time
# What the page is made of: path -> (file, type). No other file is served by its name.
PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/studio.css": ("studio.css", "text/css; charset=utf-8"),
    "/studio.js": ("studio.js", "text/javascript; charset=utf-8"),
    "/clip.js": ("clip.js", "text/javascript; charset=utf-8"),
    "/draw.js": ("draw.js", "text/javascript; charset=utf-8"),
    "/files.js": ("files.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/keys.js": ("keys.js", "text/javascript; charset=utf-8"),
    "/panels.js": ("panels.js", "text/javascript; charset=utf-8"),
    "/palettes.js": ("palettes.js", "text/javascript; charset=utf-8"),
    "/scope.js": ("scope.js", "text/javascript; charset=utf-8"),
    "/server.js": ("server.js", "text/javascript; charset=utf-8"),
    "/view.js": ("view.js", "text/javascript; charset=utf-8"),
}


class Json(JSONResponse):
    """JSON in ASCII, because names of files may have no form in UTF-8."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False).encode("ascii")


class Studio:
    """The routes of the page.

    Args:
        session: the open film.
        renders: the queue.
    """

    def __init__(self, session: Session, renders: Renders) -> None:
        self.session = session
        self.renders = renders
        self._one_image = asyncio.Lock()

    def state(self) -> dict[str, Any]:
        """Return all that the page shows, as plain JSON values."""
        session = self.session
        return {
            "opening": session.opening,
            "error": session.error,
            "clip": session.clip_progress,
            "project": session.project.describe() if session.project else None,
            "renders": self.renders.describe(),
        }

    async def films(self, _: Request) -> Response:
        """List the films, images and palettes in the allowed folders."""
        return Json(await run_in_threadpool(self.session.folders.contents))

    async def show_state(self, _: Request) -> Response:
        """Return the state."""
        return Json(await run_in_threadpool(self.state))

    async def open(self, request: Request) -> Response:
        """Begin to open a film."""
        values = await _values(request)
        self.session.open(self.session.folders.check(_text(values, "path")))
        return Json(self.state())

    async def edit(self, request: Request) -> Response:
        """Change the plan, and save it."""
        values = await _values(request)
        await run_in_threadpool(self.session.opened().edit, values)
        return Json(self.state())

    async def propose(self, request: Request) -> Response:
        """Return a palette."""
        values = await _values(request)
        part = values.get("frames")
        if part is not None:
            shots = [[shot.start, shot.end] for shot in self.session.opened().shots]
            if part not in shots:
                raise ValueError("these frames are no shot; look at the plan, and try again.")
            part = tuple(part)
        palette = await run_in_threadpool(self.session.propose, _text(values, "spec"), part)
        return Json(described(palette))

    async def preview(self, request: Request) -> Response:
        """Return one frame in color; nothing if a later request has taken its place."""
        values = await _values(request)
        image = await run_in_threadpool(self.session.preview, values)
        if image is None:
            return Response(None, 204)
        kind = "image/png" if values.get("full") else "image/jpeg"
        return Response(image, media_type=kind)

    async def clip(self, request: Request) -> Response:
        """Color a few seconds; nothing if a later request has taken their place."""
        found = await run_in_threadpool(self.session.clip, await _values(request))
        return Response(None, 204) if found is None else Json(found)

    async def clip_frame(self, request: Request) -> Response:
        """Return one frame of the last clip."""
        return Response(self.session.clip_frame(**request.path_params), media_type="image/jpeg")

    async def cancel(self, _: Request) -> Response:
        """Stop the preview or the clip that is computed."""
        self.session.cancel()
        return Response(None, 204)

    async def frame(self, request: Request) -> Response:
        """Return one gray frame, or a thumbnail of it."""
        number = request.path_params["number"]
        width = THUMBNAIL if request.path_params["size"] == "small" else None
        pictures = self.session.opened().pictures
        image = await run_in_threadpool(lambda: jpeg(pictures[number].gray, width))
        return Response(image, media_type="image/jpeg")

    async def gray(self, request: Request) -> Response:
        """Return one gray frame at the film's size, as a PNG."""
        pictures, number = self.session.opened().pictures, request.path_params["number"]
        image = await run_in_threadpool(lambda: png(pictures.full(number)))
        return Response(image, media_type="image/png")

    async def images(self, request: Request) -> Response:
        """Keep the image that is the body."""
        async with self._one_image:  # large bodies are read one after the other
            file = io.BytesIO(await request.body())
            name = await run_in_threadpool(self.session.keep_image, file, "the image")
        return Json({"image": name})

    async def pick(self, request: Request) -> Response:
        """Keep a copy of an image in an allowed folder."""
        path = self.session.folders.check(_text(await _values(request), "path"))
        async with self._one_image:
            name = await run_in_threadpool(self.session.keep_image, path, path.name)
        return Json({"image": name})

    async def mask(self, request: Request) -> Response:
        """Return an image that shows the mask of a region in a frame."""
        image = await run_in_threadpool(lambda: self.session.mask(**request.path_params))
        return Response(image, media_type="image/png") if image else Response(None, 204)

    async def render(self, request: Request) -> Response:
        """Queue a render of the plan that the page shows."""
        values = await _values(request)
        project = self.session.opened()
        project.check_revision(values)
        await run_in_threadpool(self.renders.add, project, _text(values, "format"))
        return Json(self.state())

    async def change_render(self, request: Request) -> Response:
        """Cancel or resume a render."""
        change = {"cancel": self.renders.cancel, "resume": self.renders.resume}
        name = request.path_params["change"]
        if name not in change:
            raise ValueError(f"{name!r} is not known; use cancel or resume.")
        await run_in_threadpool(change[name], request.path_params["number"])
        return Json(self.state())

    async def film(self, request: Request) -> Response:
        """Return a finished film."""
        return FileResponse(self.renders.output(request.path_params["number"]))


def application(studio: Studio, token: str, host: str = "127.0.0.1") -> Guard:
    """Return the ASGI application."""
    routes = [Route(path, functools.partial(_page, path)) for path in PAGE]
    routes += [
        Route("/api/films", studio.films),
        Route("/api/state", studio.show_state),
        Route("/api/open", studio.open, methods=["POST"]),
        Route("/api/edit", studio.edit, methods=["POST"]),
        Route("/api/propose", studio.propose, methods=["POST"]),
        Route("/api/preview", studio.preview, methods=["POST"]),
        Route("/api/clip", studio.clip, methods=["POST"]),
        Route("/api/clips/{number:int}/{frame:int}.jpg", studio.clip_frame),
        Route("/api/cancel", studio.cancel, methods=["POST"]),
        Route("/api/frames/{number:int}/full.png", studio.gray),
        Route("/api/frames/{number:int}/{size}.jpg", studio.frame),
        Route(IMAGES, studio.images, methods=["POST"]),
        Route("/api/pick", studio.pick, methods=["POST"]),
        Route("/api/masks/{shot:int}/{region:int}/{frame:int}.png", studio.mask),
        Route("/api/renders", studio.render, methods=["POST"]),
        Route("/api/renders/{number:int}/film", studio.film),
        Route("/api/renders/{number:int}/{change}", studio.change_render, methods=["POST"]),
    ]

    handlers = {
        TooLarge: _too_large,
        TooSlow: _too_slow,
        Stale: _stale,
        ValueError: _mistake,
        OSError: _failure,
        FloatingPointError: _failure,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    return Guard(app, token, host, log)


def serve(
    film: Path | None,
    folders: Folders,
    load: Callable[[], Model],
    sample: Sequence[str],
    host: str,
    port: int,
    browser: bool,
) -> None:
    """Serve the page until a signal comes.

    Args:
        film: opened at the beginning, if given.
        folders: that may be read and written.
        load: returns the model.
        sample: flags of `sample` for renders, which name the model.
        host: address to listen on.
        port: port to listen on; 0 for any that is free.
        browser: open the page in the browser.

    Raises:
        ValueError: if the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"{host}, port {port}: cannot be listened on ({error}); give another --port."
        ) from None
    token = secrets.token_urlsafe(24)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/{token}/"
    session = Session(folders, load)
    studio = Studio(session, Renders(folders, sample))
    if film is not None:
        session.open(folders.check(film.resolve()))
    if not is_loopback(host):
        log(f"warning: {host} can be reached by other machines; the token is all that stops them.")
    print(f"studio: {address}", flush=True)
    if browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    config = uvicorn.Config(
        application(studio, token, host),
        http="h11",  # which bounds headers
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="off",
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
    )
    # The main thread only waits for signals, so that none interrupts the loop or waits for JAX.
    run = functools.partial(uvicorn.Server(config).run, sockets=[listening])
    serving = threading.Thread(target=run, daemon=True)
    serving.start()
    try:
        serving.join()
    except signals.Terminated as stop:
        studio.renders.close()
        signals.leave(stop.number)  # a normal end would abort if a thread is in JAX


async def _page(path: str, _: Request) -> Response:
    name, kind = PAGE[path]
    data = (resources("palette_vc_jax.studio") / "static" / name).read_bytes()
    return Response(data, media_type=kind)


async def _values(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body of a request."""
    body = await request.body()
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ValueError("the request holds no JSON object.")
    return values


def _text(values: dict[str, Any], key: str) -> str:
    if not isinstance(values.get(key), str):
        raise ValueError(f"{key} is missing; give a text.")
    return values[key]


async def _mistake(_: Request, error: Exception) -> Response:
    return Json({"error": str(error)}, 400)


async def _too_large(_: Request, __: Exception) -> Response:
    return Response("The request is too large.", 413, headers={"connection": "close"})


async def _too_slow(_: Request, __: Exception) -> Response:
    return Response("The request has not come in time.", 408, headers={"connection": "close"})


async def _stale(_: Request, error: Exception) -> Response:
    return Json({"error": str(error)}, 409)


async def _failure(_: Request, error: Exception) -> Response:
    log(f"studio: error: {error}")
    return Json({"error": str(error)}, 500)
