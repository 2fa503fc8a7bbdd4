"""The page of the studio in a real browser: Chromium of the distribution."""

import shutil
import socket
import threading

import pytest

pytest.importorskip("starlette", reason="needs Starlette: pip install -r requirements-studio.txt")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")

import uvicorn  # noqa: E402

from palette_vc_jax.studio.renders import Renders  # noqa: E402
from palette_vc_jax.studio.server import Studio, application  # noqa: E402
from tests.studio.projects import SHOTS, make_folder, open_session  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WAIT = 120_000  # milliseconds; a model may be compiled meanwhile

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")


@pytest.fixture
def project(tmp_path, model):
    folder = tmp_path / "films"
    film = make_folder(folder)
    film.with_name("in.mkv.plan.json").write_text(SHOTS.replace('"5=key.png"', ""))
    return open_session(film, model)


@pytest.fixture
def page(project, model):
    """Open the page; no script of it may fail."""
    listening = socket.create_server(("127.0.0.1", 0))
    studio = Studio(project, Renders(project.folders, ["--checkpoint", str(model)]))
    config = uvicorn.Config(application(studio, "token"), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    failures = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda line: line.type == "error" and failures.append(line.text))
        page.goto(f"http://127.0.0.1:{listening.getsockname()[1]}/token/")
        yield page
        browser.close()
    server.should_exit = True
    thread.join()
    assert [text for text in failures if "status of 400" not in text] == []


def preview(page, before=""):
    """Wait for another preview than that of the address `before`; return its address."""
    page.wait_for_selector(f"#after[src]:not([src='{before}']):not([hidden])")
    return page.get_attribute("#after", "src")


def test_a_film_is_edited_and_rendered(page, project):
    """If this fails, a restorer cannot color a film in the page."""
    page.wait_for_selector("#strip li")
    first = preview(page)
    page.fill("#text0", "tomato")
    page.keyboard.press("Tab")
    page.wait_for_selector("#saved:has-text('saved in in.mkv.plan.json')")
    preview(page, first)
    assert "#ff6347" in project.opened().shots[1].palette

    page.click("#strip li:nth-child(2) button")
    page.keyboard.press("s")
    page.wait_for_selector("#strip li:nth-child(3)")
    page.keyboard.press("Control+z")
    page.wait_for_selector("#strip li:nth-child(3)", state="detached")
    assert len(project.opened().shots) == 2
    page.click("text=this shot")
    page.keyboard.press("g")
    page.wait_for_selector("#strip li:nth-child(2):has-text('gray')")
    assert [shot.strength for shot in project.opened().shots] == [1.0, 0.0]
    page.click("#undo")
    page.wait_for_selector("#strip li:nth-child(2):not(:has-text('gray'))")

    page.click("#render button")
    page.click("#queue button:has-text('Cancel')")
    page.click("#queue button:has-text('Resume')")
    page.reload()
    page.click("#queue button:has-text('Show')")
    page.locator("video").evaluate("video => video.play()")
    assert page.locator("video").evaluate("video => [video.error, video.videoWidth]") == [None, 64]


def test_names_and_errors_are_text(page, project):
    """If this fails, the name of a film runs a script, or a mistake has no message."""
    name = "<img src=x onerror=alert(1)>"
    make_folder(project.folders.roots[0] / name)
    page.wait_for_selector("#strip li")
    page.click("#choose")
    page.get_by_text(name).first.wait_for()
    assert page.locator("#films img").count() == 0
    page.keyboard.press("Escape")
    page.fill("#words", "qwertz")
    page.click("#by-words button")
    page.wait_for_selector("#message:has-text('qwertz')")


def test_the_page_is_accessible(page):
    """If this fails, people who use a keyboard or a screen reader cannot work with the page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    page.wait_for_selector("#strip li")
    preview(page)
    for opener in (None, "#choose", "#help"):
        if opener:
            page.keyboard.press("Escape")
            page.click(opener)
            page.wait_for_selector("dialog[open]")
        found = axe.Axe().run(page).response["violations"]
        serious = [one["id"] for one in found if one["impact"] in ("serious", "critical")]
        assert serious == [], opener
