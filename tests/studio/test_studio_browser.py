"""The page of the studio in a real browser: Chromium of the distribution."""

import shutil
import socket
import threading
from contextlib import closing

import pytest
from PIL import Image

pytest.importorskip("starlette", reason="needs Starlette: pip install -r requirements-studio.txt")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")

import uvicorn  # noqa: E402

from palette_vc_jax.sampling.regions import read_mask  # noqa: E402
from palette_vc_jax.studio.project import plan_of  # noqa: E402
from palette_vc_jax.studio.renders import Renders  # noqa: E402
from palette_vc_jax.studio.server import Studio, application  # noqa: E402
from tests import films  # noqa: E402
from tests.studio.projects import SHOTS, make_folder, open_session, serving  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WAIT = 120_000  # milliseconds; a model may be compiled meanwhile

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")


@pytest.fixture(scope="module")
def served(tmp_path_factory, model):
    """Serve one folder for all tests, so that each program is compiled once."""
    folder = tmp_path_factory.mktemp("films")
    session = open_session(make_folder(folder), model)
    listening = socket.create_server(("127.0.0.1", 0))
    studio = Studio(session, Renders(session.folders, ["--checkpoint", str(model)]))
    config = uvicorn.Config(application(studio, "token"), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield session, f"http://127.0.0.1:{listening.getsockname()[1]}/token/"
    server.should_exit = True
    thread.join()
    studio.renders.close()


@pytest.fixture
def project(served, request):
    """Open a film of the test's own."""
    session, _ = served
    film = make_folder(session.folders.roots[0] / request.node.name)
    film.with_name("in.mkv.plan.json").write_text(SHOTS.replace('"5=key.png"', ""))
    session.open(film).join()
    return session


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(project, served, chromium):
    """Open the page; no script of it may fail."""
    failures = []
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    page.set_default_timeout(WAIT)
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda line: line.type == "error" and failures.append(line.text))
    page.goto(served[1])
    page.wait_for_selector("#strip li")
    yield page
    page.close()
    assert [text for text in failures if "status of 400" not in text] == []


def preview(page, before=""):
    """Wait for another preview than that of the address `before`; return its address."""
    page.wait_for_selector(f"#after[src]:not([src='{before}']):not([hidden])")
    return page.get_attribute("#after", "src")


def test_a_film_is_edited_and_rendered(page, project):
    """If this fails, a restorer cannot color a film in the page."""
    first = preview(page)
    page.fill("#text0", "tomato")
    page.fill("#text1", "gold")
    page.fill("#text4", "teal")
    page.keyboard.press("Tab")
    page.wait_for_selector("#saved:has-text('saved in in.mkv.plan.json')")
    preview(page, first)
    # The server sorts colors. `wait_for_function` would need eval, which the page forbids.
    sync_api.expect(page.locator("#color4")).to_have_value("#ffd700", timeout=WAIT)
    assert {"#ff6347", "#ffd700", "#008080"} < set(project.opened().shots[1].palette.split(","))

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

    page.fill("#dark", "0.2")
    page.keyboard.press("Tab")
    page.wait_for_selector("#undo:not([disabled])")

    page.click("#render button")
    page.click("#queue button:has-text('Cancel')")
    page.click("#queue button:has-text('Resume')")
    page.reload()
    page.click("#queue button:has-text('Show')")
    page.locator("video").evaluate("video => video.play()")
    assert page.locator("video").evaluate("video => [video.error, video.videoWidth]") == [None, 64]
    assert project.opened().settings.neutral == (0.2, 0.9)


def test_a_killed_studio_goes_on_with_its_render(tmp_path, model, chromium):
    """If this fails, a power cut costs a night, or the page does not show what is left."""
    film = make_folder(tmp_path)
    plan_of(film).write_text(SHOTS.replace('"5=key.png"', ""))
    with closing(chromium.new_page()) as page:
        page.set_default_timeout(WAIT)
        with serving(film, model) as (process, address):
            page.goto(address)
            page.wait_for_selector("#strip li")
            page.click("#render button")
            page.wait_for_selector("#queue progress")
            process.kill()
            page.wait_for_selector("#message:has-text('Start it again')")
        assert not film.with_name("in.colored.mp4").exists()
        with serving(film, model) as (process, address):
            page.goto(address)
            page.click("#queue button:has-text('Show')")
            page.locator("video").evaluate("video => video.play()")
            process.terminate()
            assert process.wait(60) == 143
    assert len(films.chroma(film.with_name("in.colored.mp4"))) == 12


def test_names_and_errors_are_text(page, project):
    """If this fails, the name of a film runs a script, or a mistake has no message."""
    name = "<img src=x onerror=alert(1)>"
    make_folder(project.folders.roots[0] / name)
    page.click("#choose")
    page.get_by_text(name).first.wait_for()
    assert page.locator("#films img").count() == 0
    page.keyboard.press("Escape")
    page.fill("#words", "qwertz")
    page.click("#by-words button")
    page.wait_for_selector("#message:has-text('qwertz')")


def drag(page, *places):
    """Draw a line on the picture; places are parts of its width and height."""
    box = page.locator("#draw").bounding_box()
    scale = min(box["width"] / 64, box["height"] / 48)
    left = box["x"] + (box["width"] - 64 * scale) / 2
    top = box["y"] + (box["height"] - 48 * scale) / 2
    for number, (x, y) in enumerate(places):
        page.mouse.move(left + 64 * scale * x, top + 48 * scale * y)
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def test_regions_are_drawn_and_colored(page, project):
    """If this fails, a restorer cannot give a part of the picture its own colors."""
    page.click("#strip li:nth-child(2) button")
    first = preview(page)
    page.keyboard.press("r")
    drag(page, (0.75, 0.75), (0.25, 0.25))
    page.click("#add")
    page.wait_for_selector("#region-list li")
    ((mask, palette),) = project.opened().shots[1].regions
    assert mask == "16,12,32,24@8" and palette == project.opened().shots[1].palette
    assert page.is_checked("#scope-region")
    page.fill("#text4", "tomato")
    page.keyboard.press("Tab")
    page.wait_for_selector("#strip li:nth-child(2):has-text('1 region')")
    preview(page, first)
    assert "#ff6347" in project.opened().shots[1].regions[0][1]
    assert "#ff6347" not in project.opened().shots[1].palette
    page.keyboard.press("Escape")
    page.locator("#region-list button").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#time:has-text('frame 9')")
    page.wait_for_selector("#mask:not([hidden])")
    assert page.get_attribute("#mask", "src").startswith("api/masks/1/0/9.png")

    page.keyboard.press("b")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#region-list li:nth-child(2)")
    image = project.opened().shots[1].regions[1][0].partition("@")[0]
    painted = read_mask(project.opened().file.parent / image)
    assert 0.01 < painted.mean() < 0.1 and painted[24, 33] == 1.0 and painted[0, 0] == 0.0
    page.click("#region-list li:nth-child(1) >> text=Remove")
    page.wait_for_selector("#region-list li:nth-child(2)", state="detached")
    page.keyboard.press("ArrowUp")
    page.wait_for_selector("#region-list li", state="detached")
    assert page.is_checked("input[value=one]") and page.is_disabled("#scope-region")


def test_a_frame_is_taken_out_and_put_back(page, project):
    """If this fails, a restorer cannot repair a frame in another program."""
    page.click("#strip li:nth-child(2) button")
    files = []
    for button, mode in (("#save-color", "RGB"), ("#save-gray", "L")):
        with page.expect_download() as download:
            page.click(button)
        files.append(project.folders.roots[0] / download.value.suggested_filename)
        download.value.save_as(files[-1])
        with Image.open(files[-1]) as image:
            assert (image.size, image.mode) == ((64, 48), mode)
    assert files[0].name == "in.mkv.frame-8.png"
    page.set_input_files("#repaired", files[0])
    page.wait_for_selector("#key-list li:has-text('Frame 8')")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#time:has-text('frame 7')")
    page.reload()
    page.click("#strip li:nth-child(2) button")
    page.select_option("#picture", str(files[1]))
    page.click("#by-picture button")
    page.wait_for_selector("#message:not(:has-text('shots'))")
    assert len(project.opened().shots[1].keyframes) == 1  # of frame 8, now in gray
    page.click("#key-list >> text=Remove")
    page.wait_for_selector("#key-list li", state="detached")
    assert project.opened().shots[1].keyframes == ()
    page.set_input_files("#repaired", {"name": "a.png", "mimeType": "image/png", "buffer": b"no"})
    page.wait_for_selector("#message:has-text('cannot be read as an image')")


def test_a_clip_is_colored_played_and_canceled(page, project):
    """If this fails, a restorer sees flicker only in the finished film."""
    page.click("#strip li:nth-child(2) button")
    preview(page)
    page.keyboard.press("p")
    page.wait_for_selector("#note:has-text('frames 4 to 11, colored as a clip')")
    shown = page.text_content("#time")
    page.wait_for_selector(f"#time:not(:has-text('{shown}'))")
    assert page.locator("#after").evaluate("image => image.naturalWidth") == 64
    page.keyboard.press("k")
    page.keyboard.press("c")
    assert page.input_value("#compare") == "100"
    page.click("text=this shot")
    page.keyboard.press("d")  # a clip of other colors is not kept
    preview(page, page.get_attribute("#after", "src"))
    page.wait_for_selector("#note:has-text('one frame')")
    with project._device.lock:  # a computation that is under way
        asked = project._asked
        page.click("#clip")
        page.wait_for_selector("#clip:has-text('Cancel')")
        page.keyboard.press("ArrowLeft")
        while project._asked < asked + 2:
            page.wait_for_timeout(50)
    page.wait_for_selector("#clip:has-text('Preview clip')")
    page.wait_for_selector("#note:has-text('one frame')")


def test_a_proposal_is_taken_from_the_contact_sheet(page, project):
    """If this fails, a restorer chooses between palettes without seeing them on the film."""
    page.fill("#words", "autumn")
    page.click("#compare-proposals")
    page.wait_for_selector("#cells li:last-child img[src]")
    cells = page.locator("#cells li").count()
    assert cells >= 11 and page.locator("#cells img[src]").count() == cells
    before = project.opened().shots[0].palette
    page.click("#cells button:has-text('autumn')")
    page.wait_for_selector("#sheet", state="hidden")
    page.wait_for_selector("#saved:has-text('saved')")
    assert before != project.opened().shots[0].palette == project.opened().shots[1].palette


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768)])
def test_the_page_is_accessible(page, size):
    """If this fails, people who use a keyboard or a screen reader cannot work with the page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    page.set_viewport_size({"width": size[0], "height": size[1]})
    preview(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.click("#rectangle")
    page.click("#add")
    page.wait_for_selector("#region-list li")
    page.set_input_files("#repaired", page_image(page))
    page.wait_for_selector("#key-list li")
    for opener in (None, "#rectangle", "#brush", "#compare-proposals", "#choose", "#help"):
        if opener:
            page.keyboard.press("Escape")
            page.click(opener)
            page.wait_for_selector(
                "#tools" if opener in ("#rectangle", "#brush") else "dialog[open]"
            )
        if opener == "#compare-proposals":
            page.wait_for_selector("#cells li:nth-child(10) img[src]")
        found = axe.Axe().run(page).response["violations"]
        serious = [one["id"] for one in found if one["impact"] in ("serious", "critical")]
        assert serious == [], opener


def page_image(page):
    """Return the frame that the page shows, as a file of an upload."""
    frame = page.request.get(page.url + "api/frames/0/full.png")
    return {"name": "frame.png", "mimeType": "image/png", "buffer": frame.body()}
