"""The server of the studio: what the page asks for, and what others may not."""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="needs Starlette: pip install -r requirements-studio.txt")
httpx = pytest.importorskip("httpx", reason="starlette.testclient needs httpx")

from starlette.testclient import TestClient  # noqa: E402

import palette_vc_jax.studio  # noqa: E402
from palette_vc_jax.commands import studio as command_studio  # noqa: E402
from palette_vc_jax.studio import guard  # noqa: E402
from palette_vc_jax.studio.project import plan_of  # noqa: E402
from palette_vc_jax.studio.renders import Renders  # noqa: E402
from palette_vc_jax.studio.server import PAGE, Studio, application  # noqa: E402
from tests import films  # noqa: E402
from tests.commands import command  # noqa: E402
from tests.studio.projects import SHOTS, make_folder, open_session, serving  # noqa: E402

TOKEN = "a-token"
STATIC = Path(palette_vc_jax.studio.__file__).parent / "static"


@pytest.fixture
def studio(tmp_path, model):
    session = open_session(make_folder(tmp_path / "films"), model)
    found = Studio(session, Renders(session.folders, ["--checkpoint", str(model)]))
    yield found
    found.renders.close()


@pytest.fixture
def client(studio):
    return TestClient(application(studio, TOKEN), base_url=f"http://127.0.0.1:8000/{TOKEN}/")


def test_the_page_and_its_files_are_served_with_a_strict_policy(client):
    """If this fails, the page is not shown, or may run the scripts of other hosts."""
    assert {path.name for path in STATIC.iterdir()} == {name for name, _ in PAGE.values()}
    for name in PAGE:
        answer = client.get(name.removeprefix("/"))
        assert answer.status_code == 200, name
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in answer.headers["content-security-policy"]
        text = answer.text
        assert not re.search("(src|href|url|import|fetch)[^;>]*https?://", text)


def test_names_with_markup_are_only_text(client, studio):
    """If this fails, the name of a film runs a script in the page."""
    film = make_folder(studio.session.folders.roots[0] / "<img src=x onerror=alert(1)>")
    listed = client.get("api/films")
    assert listed.headers["content-type"] == "application/json"
    assert str(film) in [one["path"] for one in listed.json()["films"]]
    scripts = "".join(path.read_text() for path in STATIC.glob("*.js"))
    assert not re.search("innerHTML|outerHTML|insertAdjacent|document.write|eval|srcdoc", scripts)


def test_an_edit_and_its_undo(client, studio):
    """If this fails, the page cannot change the plan, or shows an old one."""
    values = {"action": "split", "frame": 8, "revision": 0}
    project = client.post("api/edit", json=values).json()["project"]
    assert [shot["end"] for shot in project["shots"]] == [4, 8, 12] and project["can_undo"]
    assert client.post("api/edit", json=values).status_code == 409
    project = client.post("api/edit", json={"action": "undo", "revision": 1}).json()["project"]
    assert len(project["shots"]) == 2 and project["can_redo"]


def test_a_preview_follows_the_palette(client):
    """If this fails, a restorer chooses colors by a picture of other colors."""

    def preview(**values):
        answer = client.post("api/preview", json={"frame": 6, **values})
        with Image.open(io.BytesIO(answer.content)) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    one, other = preview(colors=["tomato"]), preview(colors=["navy"])
    assert one.shape == (48, 64, 3) and np.ptp(one, axis=-1).max() > 8
    assert np.abs(one - other).max() > 8
    assert np.ptp(preview(strength=0.0), axis=-1).max() == 0
    assert client.post("api/preview", json={"frame": 12}).status_code == 400


def test_a_later_preview_cancels_those_that_have_not_begun(studio):
    """If this fails, the page waits for previews that nobody sees any more."""
    found = {}
    with studio.session._device.lock:  # a computation that is under way
        threads = [
            threading.Thread(
                target=lambda frame=frame: found.update(
                    {frame: studio.session.preview({"frame": frame})}
                )
            )
            for frame in (1, 2)
        ]
        for number, thread in enumerate(threads, 1):
            thread.start()
            while studio.session._asked < number:
                pass
    for thread in threads:
        thread.join()
    assert found[1] is None and found[2][:2] == b"\xff\xd8"


def test_frames_are_those_of_the_film(client):
    """If this fails, a shot is split at another frame than the page shows."""
    expected = films.lumas(12)
    for number in (7, 2, 3, 11):
        answer = client.get(f"api/frames/{number}/large.jpg")
        with Image.open(io.BytesIO(answer.content)) as image:
            shown = np.asarray(image).astype(float)
        lumas = [(codes.astype(float) - 16) / 219 * 255 for codes in expected]
        distances = [np.abs(shown - luma).mean() for luma in lumas]
        assert int(np.argmin(distances)) == number


@pytest.mark.parametrize(
    "spec", ["auto", "gmm:4", "words:autumn", "none", "image:{}/still.png", "file:{}/own.hex"]
)
def test_proposals(client, studio, spec):
    """If this fails, a kind of proposal is missing in the page."""
    root = studio.session.folders.roots[0]
    Image.new("RGB", (8, 8), "teal").save(root / "still.png")
    (root / "own.hex").write_text("aa0000\n00aa00\n0000aa\naaaa00\n00aaaa\n")
    answer = client.post("api/propose", json={"spec": spec.format(root), "frames": [4, 12]})
    assert answer.status_code == 200, answer.text
    colors = answer.json()["colors"]
    assert colors is None if spec == "none" else len(colors) == 5


def test_paths_outside_the_folders_are_refused(client, studio, tmp_path, capfd):
    """If this fails, the page reads or writes files that were not allowed."""
    root = studio.session.folders.roots[0]
    outside = make_folder(tmp_path / "outside")
    (root / "link.mkv").symlink_to(outside)
    (root / "linked").symlink_to(outside.parent)
    (root / "image.png").symlink_to("/etc/passwd")
    (root / "in.colored.side_by_side.png").touch()
    listed = str(client.get("api/films").json())
    assert (
        "side_by_side" not in listed
        and "link" not in listed
        and "passwd" not in listed
        and "image.png" not in listed
    )
    for path in (outside, root / "link.mkv", root / "linked" / "in.mkv", root / "../outside/in.mkv",
                 "/etc/passwd", "in.mkv", "../in.mkv", "a\0b", "/" + "x" * 9000):  # fmt: skip
        answer = client.post("api/open", json={"path": str(path)})
        assert answer.status_code == 400, path
        assert client.post("api/propose", json={"spec": f"image:{path}"}).status_code == 400
    assert client.post("api/propose", json={"spec": f"file:{root}/image.png"}).status_code == 400
    assert studio.session.opening is None
    assert all(line.startswith("studio: refused") for line in capfd.readouterr().err.splitlines())


def test_a_plan_that_is_a_link_out_of_the_folders_is_not_written(studio, tmp_path):
    """If this fails, a link in a folder makes the page replace a file elsewhere."""
    film = films.write_film(studio.session.folders.roots[0] / "other.mkv", films.lumas(2))
    film.with_name("other.mkv.plan.json").symlink_to(tmp_path / "elsewhere.json")
    studio.session.open(film).join()
    assert "not in a folder that was allowed" in studio.session.error


def test_odd_names_and_links_are_listed_and_opened(client, studio):
    """If this fails, one odd file in a folder stops the studio."""
    root = studio.session.folders.roots[0]
    (root / "loop.mkv").symlink_to("loop.mkv")
    film = make_folder(root / os.fsdecode(b"a\xff"))
    listed = [one["path"] for one in client.get("api/films").json()["films"]]
    assert str(film) in listed and not any("loop" in path for path in listed)
    assert Renders(studio.session.folders, []).describe() == []
    opened = client.post("api/open", content=json.dumps({"path": str(film)}))
    assert opened.status_code == 200


def test_an_edit_of_the_film_before_is_refused(client, studio):
    """If this fails, a window that shows one film changes another, or an old plan."""
    film = studio.session.opened().plan.film.path
    split = {"action": "split", "revision": 0}
    assert client.post("api/edit", json=split | {"frame": 8}).status_code == 200
    shown = client.get("api/state").json()["project"]["revision"]
    studio.session.open(film).join()
    answer = client.post("api/edit", json=split | {"frame": 9, "revision": shown})
    assert answer.status_code == 409
    studio.session.open(make_folder(film.parent / "other")).join()
    assert client.post("api/edit", json=split | {"frame": 9}).status_code == 409
    for values in ({}, {"revision": shown}):
        assert client.post("api/renders", json={"format": "mkv", **values}).status_code == 409
    assert studio.renders.describe() == []


@pytest.mark.parametrize("values", [
    {"action": "strength", "shots": [0], "value": 10**400},
    {"action": "add_region", "frame": 3, "rectangle": [0, 0, 4, 10**400], "colors": ["red"]},
])  # fmt: skip
def test_huge_numbers_are_refused(client, values):
    """If this fails, a number without a bound ends in a traceback."""
    assert client.post("api/edit", json=values | {"revision": 0}).status_code == 400


def test_a_plan_that_is_read_only_or_gone(client, studio):
    """If this fails, a protected plan is replaced, or the work of a deleted one cannot be saved."""
    plan = studio.session.opened().file
    plan.chmod(0o444)
    values = {"action": "split", "frame": 8, "revision": 0}
    assert "read-only" in client.post("api/edit", json=values).json()["error"]
    plan.unlink()
    assert client.post("api/edit", json=values).status_code == 200 and plan.exists()


def test_the_address_without_its_last_slash(client):
    """If this fails, an address that was copied without its end shows an error."""
    answer = client.get(f"http://127.0.0.1:8000/{TOKEN}")
    assert answer.status_code == 200 and answer.url.path == f"/{TOKEN}/"


def test_slow_bodies_are_given_up(studio, monkeypatch, capfd):
    """If this fails, requests that stand still take the places of others for ever."""
    monkeypatch.setattr(guard, "PATIENCE", 0.01)
    app = application(studio, TOKEN)

    async def body():
        yield b"a"
        await asyncio.sleep(60)

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post(f"/{TOKEN}/api/edit", content=body())

    assert asyncio.run(ask()).status_code == 408
    assert "(408)" in capfd.readouterr().err and app._running == 0


def test_a_preview_that_nobody_waits_for_ends_before_the_device_is_free(studio):
    """If this fails, previews that were replaced block the connections of the page."""
    with studio.session._device.lock:  # a computation that is under way
        found = []
        thread = threading.Thread(target=lambda: found.append(studio.session.preview({"frame": 1})))
        thread.start()
        while studio.session._asked < 1:
            pass
        studio.session.cancel()
        thread.join(30)
        assert found == [None]


@pytest.mark.parametrize(("path", "headers", "status"), [
    ("api/state", {"host": "evil.example"}, 421),
    ("api/state", {"host": "evil.example:8000"}, 421),
    ("api/state", {"host": "127.0.0.1.evil.example"}, 421),
    ("api/state", {"host": "10.0.0.1:8000"}, 421),
    ("api/state", {"host": "a@127.0.0.1:8000"}, 421),
    ("api/state", {"host": ""}, 421),
    ("api/state", {"origin": "http://evil.example"}, 403),
    ("api/state", {"origin": "null"}, 403),
    ("api/state", {"origin": "http://127.0.0.1:8001"}, 403),
    ("api/state", {"sec-fetch-site": "cross-site"}, 403),
    ("http://127.0.0.1:8000/", {}, 403),
    ("http://127.0.0.1:8000/api/state", {}, 403),
    ("http://127.0.0.1:8000/studio.js", {}, 403),
    ("http://127.0.0.1:8000/a-toke/api/state", {}, 403),
    ("http://127.0.0.1:8000/a-token2/api/state", {}, 403),
    ("..%2f..%2f..%2fetc/passwd", {}, 404),
    ("static/studio.js", {}, 404),
    ("%2e%2e/server.py", {}, 404),
])  # fmt: skip
def test_requests_of_others_are_refused_in_one_line(client, capfd, path, headers, status):
    """If this fails, another page or another user of the machine reads the films."""
    answer = client.get(path, headers=headers)
    assert answer.status_code == status
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("studio: refused GET") and TOKEN not in line.replace(f"{TOKEN}2", "")


def test_the_own_origin_is_answered(client):
    """If this fails, browsers that send an Origin cannot use the page."""
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert client.get("api/state", headers=own).status_code == 200
    assert client.get("api/state", headers={"host": "localhost:8000"}).status_code == 200


def test_large_bodies_are_not_read(client, capfd):
    """If this fails, a request of 100 MB fills the memory."""
    assert client.post("api/edit", content=bytes(100_000_000)).status_code == 413
    read = 0

    def chunks():
        nonlocal read
        for _ in range(1600):
            read += 65536
            yield bytes(65536)

    assert client.post("api/edit", content=chunks()).status_code == 413
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 and all("(413)" in line for line in lines)


@pytest.mark.parametrize("body", ["", "[]", "no", "1", '{"a":' * 10000, '{"path": 1}'])
def test_other_bodies_are_refused(client, body):
    """If this fails, a wrong request ends in a traceback."""
    assert client.post("api/open", content=body).status_code == 400


def test_many_requests_at_the_same_time_are_bounded(studio, capfd):
    """If this fails, a burst of requests exhausts threads and memory."""
    app = application(studio, TOKEN)

    async def burst():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            asked = [client.get(f"/{TOKEN}/api/films") for _ in range(200)]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    codes = asyncio.run(burst())
    assert set(codes) == {200, 503} and codes.count(200) >= guard.MAX_REQUESTS
    assert len(capfd.readouterr().err.splitlines()) == codes.count(503)
    assert app._running == 0


def test_mistakes_of_the_command_are_one_line(tmp_path, capsys):
    """If this fails, a wrong flag is a traceback, or a server that shows nothing."""
    for flags in (["missing.mkv"], ["--folder", tmp_path / "none"], ["--port", "70000"],
                  ["--host", "203.0.113.1", "--no_browser"]):  # fmt: skip
        assert command(command_studio.main, *flags) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_command_serves_until_it_is_stopped(tmp_path, model):
    """If this fails, `palette-vc studio` serves nothing, or cannot be stopped."""
    with serving(make_folder(tmp_path), model) as (process, address):
        assert httpx.get(address).status_code == 200
        assert httpx.get(f"{address}api/state").json()["error"] is None
        assert httpx.get(address.rsplit("/", 2)[0]).status_code == 403
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert "Traceback" not in process.stderr.read()


def test_a_second_interrupt_ends_the_server_at_once(tmp_path, model):
    """If this fails, Ctrl-C waits for a model that is compiled, or for a render."""
    film = make_folder(tmp_path)
    plan_of(film).write_text(SHOTS.replace('"5=key.png"', ""))
    with serving(film, model) as (process, address):
        while httpx.get(f"{address}api/state").json()["project"] is None:
            time.sleep(0.1)
        httpx.post(f"{address}api/renders", json={"format": "mkv", "revision": 0})
        with contextlib.suppress(httpx.TimeoutException):  # the preview is compiled meanwhile
            httpx.post(f"{address}api/preview", json={"frame": 5}, timeout=0.5)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert time.monotonic() - begun < 2.0
        assert process.stderr.read() == "stopped.\n"
