"""What a run tells about itself, and that telling costs neither steps nor compilations."""

import io
import json
import struct
import time
import types

import jax
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from palette_vc_jax import cli
from palette_vc_jax.training import loop, monitoring
from tests.training import toy


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return toy.write_clips(tmp_path_factory.mktemp("clips"))


def _lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


# ---- TensorBoard


def _events(workdir):
    """Read all event files in the order of their names."""
    found = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:  # records: length, checksum, event, checksum
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_tensorboard_gets_numbers_and_pictures_and_hears_of_restarts(tmp_path):
    """If this fails, the curves are wrong, or a resumed run's overlap those of the steps lost."""
    picture = tmp_path / "picture.png"
    Image.new("RGB", (5, 3), "teal").save(picture)
    for start in (0, 200):
        log = monitoring.MetricsWriter(tmp_path, start)
        log.write({"step": start + 300, "loss": 0.25, "data_wait": 0.5})
        log.image(start + 300, "previews", picture)
        log.close()
    first, *rest = _events(tmp_path)
    assert first.file_version == "brain.Event:2"
    assert [(e.step, e.session_log.status) for e in rest if e.HasField("session_log")] == [
        (1, 1),
        (201, 1),  # what the first file has from here on is dropped
    ]
    values = [(e.step, v) for e in rest for v in e.summary.value]
    assert [(step, v.tag, v.simple_value) for step, v in values if v.tag != "previews"] == [
        (300, "loss", 0.25), (300, "data_wait", 0.5), (500, "loss", 0.25), (500, "data_wait", 0.5)
    ]  # fmt: skip
    shown = [(step, v.image) for step, v in values if v.tag == "previews"]
    assert [(step, i.width, i.height) for step, i in shown] == [(300, 5, 3), (500, 5, 3)]
    for _, image in shown:
        seen = Image.open(io.BytesIO(image.encoded_image_string))
        np.testing.assert_array_equal(seen, Image.open(picture))


def test_lines_after_the_resumed_step_are_cut(tmp_path):
    """If this fails, steps of a killed run are logged twice, or readers stop at its last line."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "loss": 1.0}\n{"step": 4, "loss": 0.5}\n{"step": 6, "lo')
    log = monitoring.MetricsWriter(tmp_path, 2)
    log.write({"step": 4, "loss": 0.6})
    log.close()
    assert [(line["step"], line["loss"]) for line in _lines(tmp_path)] == [(2, 1.0), (4, 0.6)]


def test_a_line_that_lost_its_end_is_ended(tmp_path):
    """If this fails, two records share a line after a crash, and the next resume drops both."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}')
    writer = monitoring.MetricsWriter(tmp_path, 2)
    writer.write({"step": 3, "loss": 0.5})
    writer.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    """If this fails, the hosts of a pod write over each other's lines."""
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    log = monitoring.MetricsWriter(tmp_path, 0)
    log.write({"step": 1, "loss": 1.0})
    log.image(1, "previews", tmp_path / "missing.png")
    log.close()
    assert not list(tmp_path.iterdir())


# ---- speed


def test_a_run_tells_its_speed_and_compiles_its_step_once(clips, tmp_path, caplog):
    """If this fails, counting operations costs a second compilation: minutes at full size."""
    traced = []
    task = toy.task(clips)

    def loss(*args):
        traced.append(1)
        return task.loss(*args)

    with jax.log_compiles(), caplog.at_level("WARNING"):
        loop.run(task._replace(loss=loss), toy.config(4), tmp_path)
    compiled = [r for r in caplog.messages if "XLA compilation of jit(step)" in r]
    assert len(compiled) == len(traced) == 1
    lines = [line for line in _lines(tmp_path) if "loss" in line]
    assert [line["step"] for line in lines] == [2, 4]
    for line in lines:
        assert line["clips_per_second"] > 0 and 0 <= line["data_wait"] <= 1
        assert line["tflops_per_second"] == 0  # no matrix product in it
        assert "peak_share" not in line  # a CPU's is not known
    assert lines[0]["seconds_left"] > 0 and lines[1]["seconds_left"] == 0


def test_a_log_file_gets_lines_of_progress(clips, tmp_path, monkeypatch, capsys):
    """If this fails, training under nohup or slurm looks frozen for hours."""
    monkeypatch.setattr(cli, "INTERVAL", 0.0)
    loop.run(toy.task(clips), toy.config(4), tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if "training: " in line]
    assert len(lines) >= 3 and all("/4 [" in line for line in lines)


class _Device:
    """A device on which a step takes `seconds`: a jitted function to all who look at it."""

    def __init__(self, seconds):
        self.seconds, self.free = seconds, 0.0
        self.trace = jax.jit(lambda x: x @ x).trace

    def __call__(self, x):
        self.free = max(self.free, time.monotonic()) + self.seconds
        return None, types.SimpleNamespace(block_until_ready=lambda at=self.free: _until(at))


def _until(moment):
    time.sleep(max(0.0, moment - time.monotonic()))


@pytest.mark.parametrize("step, data, waited", [(0.2, 0.1, 0.0), (0.05, 0.2, 0.75)])
def test_a_device_that_waits_for_data_is_seen(step, data, waited):
    """If this fails, a starved accelerator looks busy, or reading that costs nothing a waste."""
    device, throughput, pending = _Device(step), monitoring.Throughput(clips=3, total=10), None

    def stream():
        while True:
            time.sleep(data)
            yield np.ones((8, 8), np.float32)

    batches = stream()
    for _ in range(6):
        _, metrics = throughput.dispatch(device, throughput.fetch(batches))
        if pending is not None:
            pending.block_until_ready()
        pending = metrics
        throughput.count_step()
    pending.block_until_ready()
    values = throughput.report(6)
    assert abs(values["data_wait"] - waited) < 0.2
    # The first step's data is not counted, and its device time ends beside the second's data.
    assert values["clips_per_second"] == pytest.approx(3 / max(step, data), rel=0.35)
    assert values["tflops_per_second"] > 0


def test_the_bar_tells_the_share_of_the_peak_where_it_is_known():
    """If this fails, the line beside the bar is wrong or breaks the run."""
    values = {"loss": 0.5, "clips_per_second": 2.0, "tflops_per_second": 40.0, "data_wait": 0.001}
    assert monitoring.summary(values) == "loss 0.5, 2 clips/s, 40 TFLOP/s"
    known = values | {"peak_share": 0.2, "data_wait": 0.3}
    assert monitoring.summary(known) == (
        "loss 0.5, 2 clips/s, 40 TFLOP/s (20% of peak), 30% waiting for data"
    )


# ---- pictures and profiles


def test_previews_come_when_they_are_asked_for(clips, tmp_path):
    """If this fails, previews are missing, or slow down a run without them."""
    drawn = []

    def write(latents, path):
        drawn.append((path.name, latents))
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)

    previews = loop.Previews(lambda params, frozen: float(params["slope"].mean()), write)
    task = toy.task(clips)._replace(previews=previews)
    loop.run(task, toy.config(4), tmp_path / "none")
    assert not drawn
    loop.run(task, toy.config(5, previews_every=2), tmp_path / "some")
    assert [name for name, _ in drawn] == [f"step-00000{step}.png" for step in (2, 4, 5)]
    averages = [line["validation"] for line in _lines(tmp_path / "some") if "validation" in line]
    assert [value for _, value in drawn] == averages
    shown = [
        e.step
        for e in _events(tmp_path / "some")
        for v in e.summary.value
        if v.image.encoded_image_string
    ]
    assert shown == [2, 4, 5]


def test_asked_for_steps_are_profiled(clips, tmp_path):
    """If this fails, there is no trace, or a run that resumes after it cannot go on."""
    loop.run(toy.task(clips), toy.config(4), tmp_path, profile=monitoring.profile_steps("2:3", 4))
    traces = list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert len(traces) == 1 and traces[0].stat().st_size > 1000
    loop.run(toy.task(clips), toy.config(6), tmp_path, profile=monitoring.profile_steps("2:3", 6))
    assert list((tmp_path / "profile").rglob("*.xplane.pb")) == traces


@pytest.mark.parametrize("text", ["3", "a:b", "0:2", "3:2", "2:9", ":", "-1:2"])
def test_profiles_of_no_steps_are_refused(text):
    """If this fails, a mistyped window is found out after hours, by the trace that is not there."""
    with pytest.raises(ValueError, match=f"--profile {text}; START:STOP is needed, steps from 1"):
        monitoring.profile_steps(text, 8)
    assert monitoring.profile_steps("", 8) is None
    assert monitoring.profile_steps("8:8", 8) == range(8, 9)
