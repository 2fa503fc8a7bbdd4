"""Regions and keyframes of the studio: drawn and put back in the page, and kept in the plan."""

import io
import os

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="needs Starlette: pip install -r requirements-studio.txt")
pytest.importorskip("httpx", reason="starlette.testclient needs httpx")

from starlette.testclient import TestClient  # noqa: E402

from palette_vc_jax.commands import sample  # noqa: E402
from palette_vc_jax.sampling.plan_file import read_plan  # noqa: E402
from palette_vc_jax.sampling.regions import carry_regions, parse_region  # noqa: E402
from palette_vc_jax.studio import guard, masks, uploads  # noqa: E402
from palette_vc_jax.studio.colored import _reference  # noqa: E402
from palette_vc_jax.studio.project import plan_of  # noqa: E402
from palette_vc_jax.studio.renders import Renders  # noqa: E402
from palette_vc_jax.studio.server import Studio, application  # noqa: E402
from tests.commands import command  # noqa: E402
from tests.studio.projects import PALETTE, SHOTS, make_folder, open_session  # noqa: E402

COLORS = ["#800000", "#a04040", "#c06060", "#e08080", "#ffa0a0"]


@pytest.fixture
def session(tmp_path, model):
    film = make_folder(tmp_path / "films")
    plan_of(film).write_text(SHOTS.replace('"5=key.png"', ""))
    return open_session(film, model)


@pytest.fixture
def client(session, model):
    studio = Studio(session, Renders(session.folders, ["--checkpoint", str(model)]))
    app = application(studio, "a-token")
    yield TestClient(app, base_url="http://127.0.0.1:8000/a-token/")
    studio.renders.close()


@pytest.fixture
def edit(client, session):
    def run(action, **values):
        values |= {"action": action, "revision": session.opened().revision}
        return client.post("api/edit", json=values)

    return run


def image_bytes(pixels, kind="PNG"):
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, kind)
    return stored.getvalue()


def give(client, data):
    answer = client.post("api/images", content=data)
    assert answer.status_code == 200, answer.text
    return answer.json()["image"]


def opened(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def preview(client, **values):
    return opened(client.post("api/preview", json=values).content)


def test_a_region_is_in_the_plan_the_preview_and_the_page(client, edit, session):
    """If this fails, a region that was drawn is lost, or its colors are elsewhere."""
    before = preview(client, frame=8)
    drawn = np.zeros((24, 32), np.uint8)
    drawn[:, 16:] = 255
    assert edit("add_region", frame=6, rectangle=[0, 0, 8, 48], colors=["teal"]).status_code == 200
    name = give(client, image_bytes(drawn))
    shots = edit("add_region", frame=6, image=name, colors=COLORS).json()["project"]["shots"]
    assert [one["frame"] for one in shots[1]["regions"]] == [6, 6] and shots[0]["regions"] == []
    assert shots[1]["regions"][1]["palette"] == COLORS
    (_, shot) = read_plan(session.opened().file, session.opened().plan.film.rate)
    assert [mask for mask, _ in shot.regions] == ["0,0,8,48@6", f"in.mkv.plan/{name}@6"]

    edit("remove_region", shot=1, region=0)
    change = np.abs(preview(client, frame=8) - before).max(axis=-1)
    assert change[:, 40:].mean() > 8
    assert np.abs(preview(client, frame=8, region=0, colors=["navy"]) - before).max() > 8
    answer = client.get("api/masks/1/0/8.png")
    with Image.open(io.BytesIO(answer.content)) as image:
        shown = np.asarray(image)[..., 3]
    assert shown[:, -2:].min() > 100 and shown[:, :2].max() == 0
    edit("color_region", shot=1, region=0, colors=["gold"])
    assert session.opened().shots[1].regions[0][1].startswith("#ffd700")
    for path in ("1/1/8", "0/0/1", "1/0/2", "5/0/8"):
        assert client.get(f"api/masks/{path}.png").status_code == 400


def test_masks_are_carried_as_in_the_film(session, monkeypatch):
    """If this fails, the page shows a region elsewhere than the film has it."""
    monkeypatch.setattr(masks, "BLOCK", 3)
    project = session.opened()
    plan, text = project.plan, "10,8,20,16@7"
    region = parse_region(text, plan.film)
    expected = carry_regions(plan.film, plan.shots, plan.latent_shape[:2], [region]).maps[4]
    for frame in (8, 4, 11, 7, 5):
        found = project.masks.cover(text, (4, 12), frame)
        np.testing.assert_array_equal(found, expected[frame - 4, ..., 0])
    assert project.masks.cover(text, (0, 4), 2) is None


def test_a_keyframe_is_taken_out_repaired_and_put_back(client, edit, session):
    """If this fails, a frame that a restorer has repaired does not come back into the film."""
    gray = client.get("api/frames/6/full.png")
    out = client.post("api/preview", json={"frame": 6, "full": True})
    assert gray.headers["content-type"] == out.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(out.content)) as image:
        repaired = np.array(image.convert("RGB"))
    assert repaired.shape == (48, 64, 3)
    repaired[..., 0], repaired[..., 2] = 255, 0
    before = preview(client, frame=6)
    name = give(client, image_bytes(repaired, "TIFF"))
    assert name == give(client, image_bytes(repaired))  # the pixels name the file
    shots = edit("set_keyframe", frame=6, image=name).json()["project"]["shots"]
    assert [shot["keyframes"] for shot in shots] == [[], [6]]
    assert np.abs(preview(client, frame=6) - before).max() > 8
    path = session.folders.roots[0] / "repaired.jpg"
    Image.fromarray(255 - repaired).save(path)
    other = client.post("api/pick", json={"path": str(path)}).json()["image"]
    edit("set_keyframe", frame=6, image=other)
    assert session.opened().shots[1].keyframes == (f"6=in.mkv.plan/{other}",)
    edit("set_keyframe", frame=4, image=name)
    assert edit("remove_keyframe", frame=6).json()["project"]["shots"][1]["keyframes"] == [4]
    edit("undo")
    assert session.opened().shots[1].keyframes[1] == f"6=in.mkv.plan/{other}"
    assert not any(".plan/" in one["path"] for one in client.get("api/films").json()["images"])


def test_a_clip_has_the_colors_of_the_film(client, edit, session, model, tmp_path):
    """If this fails, a clip shows regions, keyframes or strengths that the film does not have."""
    key = give(client, image_bytes(np.full((48, 64, 3), (200, 60, 60), np.uint8)))
    edit("set_keyframe", frame=6, image=key)
    edit("add_region", frame=9, rectangle=[0, 0, 32, 48], colors=["gold"])
    edit("strength", shots=[1], value=1.5)
    edit("neutral", dark=0.3, bright=0.8)
    found = client.post("api/clip", json={"frame": 8}).json()
    assert (found["start"], found["end"]) == (4, 12)  # the whole shot, so that windows are equal
    project = session.opened()
    given = ["--input", project.plan.film.path, "--plan", project.file, "--checkpoint", model]
    assert command(sample.main, *given, "--output", tmp_path / "film") == 0
    frames = sorted((tmp_path / "film").glob("*.png"))[4:12]
    colored = session._colored(project.shots[1], (4, 12), project.settings)
    for number, (path, clip) in enumerate(zip(frames, colored, strict=True), 4):
        with Image.open(path) as image:
            film = np.asarray(image.convert("RGB")).astype(int)
        assert np.ptp(film, axis=-1).max() > 30
        shown = opened(client.get(f"api/clips/{found['id']}/{number}.jpg").content)
        assert np.abs(clip - film).mean() < 0.5  # the page has gray in 8 bits
        assert np.abs(shown - film).mean() < 4.0  # JPEG
    assert client.get(f"api/clips/{found['id']}/3.jpg").status_code == 400
    assert client.post("api/clip", json={"frame": 12}).status_code == 400


def test_split_shots_keep_their_own_regions_and_keyframes(client, edit, session):
    """If this fails, a keyframe is listed in a shot that it does not belong to."""
    name = give(client, image_bytes(np.zeros((48, 64), np.uint8)))
    for frame in (5, 9):
        edit("set_keyframe", frame=frame, image=name)
        edit("add_region", frame=frame, rectangle=[0, 0, 8, 8], colors=None)
    edit("split", frame=9)
    described = session.opened().describe()["shots"][1:]
    assert [shot["keyframes"] for shot in described] == [[5], [9]]
    assert [[one["frame"] for one in shot["regions"]] for shot in described] == [[5], [9]]


def test_positions_of_a_plan_become_numbers(tmp_path, model):
    """If this fails, a plan that names times cannot be edited in the page."""
    film = make_folder(tmp_path)
    mask = '[{"mask": "0,0,8,8@0:00.25", "palette": "teal"}]'
    plan_of(film).write_text(SHOTS.replace('"keyframes": ["5=key.png"]', f'"regions": {mask}'))
    (_, shot) = open_session(film, model).opened().shots
    assert shot.regions == (("0,0,8,8@6", ",".join(["#008080"] * 5)),)


def test_palettes_and_references_beside_a_plan_are_found(tmp_path, model):
    """If this fails, the page shows a plan without the palettes that `sample.py` finds."""
    film = make_folder(tmp_path)
    (tmp_path / "p.json").write_text('{"colors": ["teal"]}')
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "r.png")
    named = '"palette": "file:p.json", "reference": "image:r.png"'
    plan_of(film).write_text(
        SHOTS.replace(f'"palette": {PALETTE}, "keyframes": ["5=key.png"]', named)
    )
    project = open_session(film, model).opened()
    assert project.shots[1].palette == ",".join(["#008080"] * 5)
    assert project.shots[1].reference == "image:r.png"
    np.testing.assert_array_equal(
        _reference(project, project.shots[1]).image, np.full((48, 64, 3), (0, 128, 128))
    )


@pytest.mark.parametrize("values", [
    {"action": "add_region", "frame": 6, "rectangle": [0, 0, 65, 8]},
    {"action": "add_region", "frame": 6, "rectangle": [0, -8, 8, 8]},
    {"action": "add_region", "frame": 6, "rectangle": "0,0,8,8"},
    {"action": "add_region", "frame": 12, "rectangle": [0, 0, 8, 8]},
    {"action": "add_region", "frame": 6, "image": "/etc/passwd"},
    {"action": "add_region", "frame": 6, "image": "../../secret.png"},
    {"action": "add_region", "frame": 6, "image": "0" * 32 + ".png"},
    {"action": "add_region", "frame": 6},
    {"action": "set_keyframe", "frame": 6, "image": "0" * 32 + ".png"},
    {"action": "set_keyframe", "frame": 6, "image": "still.png"},
    {"action": "remove_keyframe", "frame": 6},
    {"action": "remove_region", "shot": 1, "region": 0},
    {"action": "color_region", "shot": 1, "region": -1, "colors": None},
])  # fmt: skip
def test_wrong_regions_and_keyframes_change_nothing(edit, session, values):
    """If this fails, the page writes a plan that cannot be rendered, or names files elsewhere."""
    before = session.opened().file.read_text()
    answer = edit(**values)
    assert answer.status_code == 400 and answer.json()["error"]
    assert session.opened().file.read_text() == before


def test_images_that_are_none_are_refused(client, session, tmp_path, monkeypatch, capfd):
    """If this fails, a file that is given damages the plan, or fills the memory."""
    square = image_bytes(np.zeros((50, 50), np.uint8))
    script = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    for data in (b"", b"no image", script, square, image_bytes(np.zeros((48, 64), np.uint8))[:60]):
        assert client.post("api/images", content=data).status_code == 400
    monkeypatch.setattr(uploads, "MAX_PIXELS", 1000)
    large = client.post("api/images", content=image_bytes(np.zeros((48, 64), np.uint8)))
    assert large.status_code == 400 and "smaller" in large.json()["error"]
    assert client.post("api/images", content=bytes(guard.MAX_IMAGE + 1)).status_code == 413
    outside = tmp_path / "outside.png"
    Image.new("RGB", (64, 48)).save(outside)
    (session.folders.roots[0] / "link.png").symlink_to(outside)
    os.mkfifo(session.folders.roots[0] / "pipe.png")
    for path in (outside, session.folders.roots[0] / "link.png", "pipe.png",
                 session.folders.roots[0] / "pipe.png", session.folders.roots[0]):  # fmt: skip
        assert client.post("api/pick", json={"path": str(path)}).status_code == 400
    assert not session.opened().images.exists()
    assert all(line.startswith("studio: refused") for line in capfd.readouterr().err.splitlines())


def test_images_are_not_written_through_a_link(client, session, tmp_path):
    """If this fails, a link in a folder makes the page write files elsewhere."""
    session.opened().images.symlink_to(tmp_path)
    answer = client.post("api/images", content=image_bytes(np.zeros((48, 64), np.uint8)))
    assert answer.status_code == 400
    assert not list(tmp_path.glob("*.png"))
