"""Renders of the studio: the real command in a process, which can be stopped and goes on."""

import json
import time

import pytest
from PIL import Image

from palette_vc_jax.commands import sample
from palette_vc_jax.studio.folders import Folders
from palette_vc_jax.studio.project import plan_of
from palette_vc_jax.studio.renders import Renders
from palette_vc_jax.studio.uploads import keep
from tests import films
from tests.commands import command
from tests.studio.projects import SHOTS, make_folder, open_project


def wait(true):
    """Wait until a function returns true."""
    end = time.monotonic() + 240
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def state_of(renders, number):
    return renders.describe()[number]["state"]


@pytest.fixture
def start(model):
    """Return a function that starts the renders of a server; all are stopped at the end."""
    started = []

    def run(folder):
        started.append(Renders(Folders([folder]), ["--checkpoint", str(model)]))
        return started[-1]

    yield run
    for renders in started:
        renders.close()


def test_a_render_is_canceled_resumed_and_survives_the_server(tmp_path, model, start):
    """If this fails, a night's work is lost, or a film is not the one that its plan describes."""
    film = make_folder(tmp_path)
    plan_of(film).write_text(SHOTS.replace('"5=key.png"', ""))
    project = open_project(film, model)
    colors = {"action": "palette", "shots": [1], "colors": ["tomato", "teal"]}
    drawn, repaired = (tmp_path / name for name in ("drawn.png", "repaired.png"))
    Image.new("L", (32, 24), 255).save(drawn)
    Image.new("RGB", (64, 48), "tomato").save(repaired)
    mask, key = (keep(one, one.name, project.images, (48, 64)) for one in (drawn, repaired))
    rectangle = {"rectangle": [0, 0, 32, 24], "colors": ["gold"]}
    for revision, request in enumerate([
        colors,
        {"action": "split", "frame": 7},
        {"action": "add_region", "frame": 2, **rectangle},
        {"action": "add_region", "frame": 9, "image": mask, "colors": ["navy"]},
        {"action": "set_keyframe", "frame": 5, "image": key},
        {"action": "neutral", "dark": 0.2, "bright": 0.8},
    ]):  # fmt: skip
        project.edit({**request, "revision": revision})
    output = tmp_path / "in.colored.mkv"

    renders = start(tmp_path)
    renders.add(project, "mkv")
    renders.add(project, "mov")
    wait(lambda: state_of(renders, 0) == "running" and "stage" in renders.describe()[0])
    renders.cancel(1)
    renders.cancel(0)
    wait(lambda: renders._renders[0].process is None)
    assert [state_of(renders, number) for number in (0, 1)] == ["canceled", "canceled"]
    renders.resume(0)
    wait(lambda: state_of(renders, 0) == "running" and "stage" in renders.describe()[0])
    renders.close()  # as when the server ends; the record says that the render is not over
    assert not output.exists()

    renders = start(tmp_path)
    states = {one["output"]: one["state"] for one in renders.describe()}
    assert states.keys() == {"in.colored.mkv", "in.colored-2.mov"}
    assert states["in.colored-2.mov"] == "canceled"
    wait(lambda: "done" in (state_of(renders, 0), state_of(renders, 1)))
    by_hand = tmp_path / "by_hand.mkv"
    given = ["--input", film, "--plan", project.file, "--checkpoint", model]
    assert command(sample.main, *given, "--output", by_hand) == 0
    assert (films.chroma(by_hand) == films.chroma(output)).all()
    record = json.loads(by_hand.with_suffix(".run.json").read_text())
    assert len(record["regions"]) == 2 and record["keyframes"][0]["frame"] == 5
    assert record["settings"]["neutral_bright"] == 0.8


def test_a_failed_render_says_why(tmp_path, model, start):
    """If this fails, the page shows a render that failed without a reason."""
    film = make_folder(tmp_path)  # its keyframe is missing
    renders = start(tmp_path)
    renders.add(open_project(film, model), "mp4")
    wait(lambda: state_of(renders, 0) == "failed")
    assert "key.png" in renders.describe()[0]["message"]


def test_a_second_studio_leaves_the_renders_of_the_first(tmp_path, model, start):
    """If this fails, two studios on one folder color the same film, and report that it failed."""
    film = make_folder(tmp_path)
    plan_of(film).write_text(SHOTS.replace('"5=key.png"', ""))
    renders = start(tmp_path)
    renders.add(open_project(film, model), "mkv")
    wait(lambda: state_of(renders, 0) == "running")
    assert start(tmp_path).describe() == []
    renders.close()
    assert len(start(tmp_path).describe()) == 1


def test_a_render_whose_process_is_killed_says_so(tmp_path, model, start):
    """If this fails, a render fails without a reason when the memory is full."""
    film = make_folder(tmp_path)
    plan_of(film).write_text(SHOTS.replace('"5=key.png"', ""))
    renders = start(tmp_path)
    renders.add(open_project(film, model), "mkv")
    wait(lambda: renders._renders[0].process is not None)
    renders._renders[0].process.kill()
    wait(lambda: state_of(renders, 0) == "failed")
    assert "code -9" in renders.describe()[0]["message"]


def test_a_record_that_cannot_be_written_stops_no_other_render(tmp_path, model, start):
    """If this fails, a full disk stops the queue until the studio is started again."""
    film = make_folder(tmp_path)
    plan_of(film).write_text(SHOTS.replace('"5=key.png"', ""))
    project = open_project(film, model)
    renders = start(tmp_path)
    record = tmp_path / "in.colored.mkv.render.json"
    with renders._changed:  # the queue has not begun yet
        renders.add(project, "mkv")
        record.unlink()
        record.mkdir()
    wait(lambda: state_of(renders, 0) == "failed")
    assert record.name in renders.describe()[0]["message"]
    record.rmdir()
    renders.resume(0)
    wait(lambda: state_of(renders, 0) == "done")


@pytest.mark.parametrize("change", [
    {"film": "../in.mkv"}, {"film": ".."}, {"film": ""}, {"film": 1}, {"output": "/etc/motd.mkv"},
    {"output": "other.mkv"}, {"output": "in.colored.sh"}, {"version": 2}, {"state": "new"},
    {"state": "done"},
])  # fmt: skip
def test_records_that_others_wrote_are_not_rendered(tmp_path, start, change):
    """If this fails, a file in a folder makes the studio write over others."""
    record = {"version": 1, "film": "in.mkv", "output": "in.colored.mkv", "state": "waiting"}
    (tmp_path / "in.colored.mkv.render.json").write_text(json.dumps(record | change))
    assert start(tmp_path).describe() == []
