"""`sample.py` from end to end, with random weights: its files and messages."""

import errno
import json
import shutil
import warnings

import av
import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from palette_vc_jax import cli
from palette_vc_jax.commands import sample
from palette_vc_jax.sampling import colorize, job, memory_plan
from palette_vc_jax.sampling.colorize import decode_film
from palette_vc_jax.video.write import FilmWriter
from tests import films, tiny
from tests.special import special


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def color(model):
    """Run `sample.py` in this process, so that what is compiled is compiled once."""

    def run(source, output, *flags):
        given = ["--input", source, "--output", output, "--checkpoint", model, *flags]
        cli.run(lambda: sample.main([str(value) for value in given]))

    return run


def _planes(path) -> list[tuple[np.ndarray, ...]]:
    """Decode a film into its planes, cropped to the picture."""
    with av.open(str(path)) as container:
        return [
            tuple(
                np.frombuffer(plane, np.uint8)
                .reshape(plane.height, plane.line_size)[:, : plane.width]
                .copy()
                for plane in frame.planes
            )
            for frame in container.decode(video=0)
        ]


def test_a_film_keeps_its_luma_times_and_gets_color(color, tmp_path):
    """If this fails, the film that comes out is not the film that went in, or is still gray."""
    pictures = films.lumas(frames=9, height=50, width=66)
    times = [0, 40, 80, 160, 200, 240, 280, 320, 360]  # a frame is missing
    source = films.write_film(
        tmp_path / "in.mkv", pictures, chroma=128, times=times, time_base=films.Fraction(1, 1000)
    )
    color(source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        shown = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    np.testing.assert_allclose(shown, np.array(times) / 1000)
    planes = _planes(tmp_path / "out.mkv")
    for before, (luma, cb, cr) in zip(pictures, planes, strict=True):
        np.testing.assert_array_equal(luma, before)
        assert max(np.ptp(cb), np.ptp(cr)) > 2
    record = json.loads((tmp_path / "out.run.json").read_text())
    assert record["frames"] == 9 and len(record["weights_sha256"]) == 3 and record["seed"] == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "in.mkv", "out.mkv", "out.run.json", "out.side_by_side.png", "out.palette.json",
        "out.palette.png",
    }  # fmt: skip


def test_bars_and_titles_stay_neutral(color, tmp_path):
    """If this fails, letterbox bars are blue, and the letters of titles have colored edges."""
    rng, codes = np.random.default_rng(0), np.full((48, 64), 120.0)
    codes[:12], codes[-12:] = rng.normal(22.0, 3.0, (2, 12, 64))
    codes[18:30, 20:26] = 228.0  # a letter
    pictures = [np.clip(codes, 16, 235).astype(np.uint8)] * 3
    source = films.write_film(tmp_path / "in.mkv", pictures, chroma=128)
    color(source, tmp_path / "out.mkv", "--palette", "tomato")
    off = ("--neutral_dark", 0, "--neutral_bright", 1)
    color(source, tmp_path / "off.mkv", "--palette", "tomato", *off)
    found, before = (
        np.abs(np.stack([np.stack(planes[1:]) for planes in _planes(tmp_path / name)]) - 128.0)
        for name in ("out.mkv", "off.mkv")
    )
    for part in (np.s_[..., :11, :], np.s_[..., -11:, :], np.s_[..., 19:29, 21:25]):
        assert found[part].max() <= 1.0 < before[part].max()
    assert found[..., 14:34, 40:].mean() > 1.0


def test_a_log_file_gets_lines_of_progress(color, tmp_path, monkeypatch, capsys):
    """If this fails, a film that is colored under nohup looks frozen for hours."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(9))
    monkeypatch.setattr(cli, "INTERVAL", 0.0)
    color(source, tmp_path / "out.mkv", "--palette", "teal")
    lines = [line for line in capsys.readouterr().err.splitlines() if "coloring: " in line]
    assert len(lines) >= 3 and all("/9 [" in line for line in lines)


def test_words_color_a_film_and_are_kept_beside_it(color, tmp_path, capsys):
    """If this fails, the run's record does not say which words gave which colors."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(3))
    color(source, tmp_path / "out.mkv", "--palette", "words:grass, a red tram, xyzzy")
    assert "xyzzy" in capsys.readouterr().err
    record = json.loads((tmp_path / "out.run.json").read_text())
    assert record["palette_source"] == "words:grass, a red tram, xyzzy"
    assert record["palette_details"]["proposer"] == "table"
    kept = tmp_path / "out.palette.json"
    assert [tag["tag"] for tag in json.loads(kept.read_text())["tags"]][:2] == [
        "grass",
        "a red tram",
    ]
    color(source, tmp_path / "again.mkv", "--palette", f"file:{kept}")
    for one, other in zip(_planes(tmp_path / "out.mkv"), _planes(tmp_path / "again.mkv"),
                          strict=True):  # fmt: skip
        np.testing.assert_array_equal(np.stack(one[1:]), np.stack(other[1:]))


def test_the_sources_chroma_is_never_seen(color, tmp_path):
    """If this fails, the model is shown the colors that it is asked to find."""
    pictures = films.lumas(frames=6)
    for name, chroma in (("colored", "colored"), ("neutral", 128)):
        source = films.write_film(tmp_path / f"{name}.mkv", pictures, chroma=chroma)
        color(source, tmp_path / f"{name}_out.mkv")
    for one, other in zip(
        *(_planes(tmp_path / f"{name}_out.mkv") for name in ("colored", "neutral")), strict=True
    ):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_both_ranges_of_one_film_get_the_same_colors(color, tmp_path):
    """If this fails, TV-range luma is read as if it were full range, or the other way."""
    gray = [picture.astype(np.float32) / 255.0 for picture in films.lumas(4, full_range=True)]
    for name, scale, low, tag in (("tv", 219, 16, 1), ("full", 255, 0, 2)):
        codes = [np.rint(low + scale * picture).astype(np.uint8) for picture in gray]
        source = films.write_film(tmp_path / f"{name}.mkv", codes, tags=(tag, 6, 6, 6))
        color(source, tmp_path / f"{name}_out.mkv", "--palette", "tomato,teal")
    span = {"tv": 224.0, "full": 255.0}
    tv, full = (
        np.stack([(np.stack(p[1:]) - 128.0) / span[name] for p in _planes(tmp_path / f)])
        for name, f in (("tv", "tv_out.mkv"), ("full", "full_out.mkv"))
    )
    assert np.abs(tv - full).max() < 0.02  # codes are 0.004 apart, luma is rounded twice
    assert np.abs(tv).max() > 0.05


def test_a_film_that_is_shown_turned_is_colored_upright(color, tmp_path):
    """If this fails, the model sees films of a telephone lying on their side."""
    upright = films.lumas(4, 48, 64)
    lying = [np.rot90(picture, -1) for picture in upright]  # a player turns them back
    planes = {}
    for name, pictures, turn in (("upright", upright, 0), ("lying", lying, 90)):
        source = films.write_film(tmp_path / f"{name}.mkv", pictures, turn=turn)
        color(source, tmp_path / f"{name}_out.mkv")
        planes[name] = _planes(tmp_path / f"{name}_out.mkv")
    for one, other in zip(planes["upright"], planes["lying"], strict=True):
        for a, b in zip(one, other, strict=True):
            assert np.abs(a.astype(int) - np.rot90(b).astype(int)).max() <= 2


def test_one_picture_and_a_folder_of_frames(color, tmp_path):
    """If this fails, films of one frame or frame folders cannot be colored."""
    picture = films.lumas(1, 33, 47, full_range=True)[0]
    Image.fromarray(picture).save(tmp_path / "still.png")
    color(tmp_path / "still.png", tmp_path / "colored.png", "--palette", "#804020")
    result = np.asarray(Image.open(tmp_path / "colored.png")).astype(np.float32)
    assert result.shape == (33, 47, 3)
    assert np.abs(result @ [0.299, 0.587, 0.114] - picture).max() <= 1.0
    folder = films.write_pictures(tmp_path / "frames", films.lumas(3, full_range=True))
    color(folder, tmp_path / "result", "--palette", "none")
    assert len(list((tmp_path / "result").glob("*.png"))) == 3
    assert not (tmp_path / "result.palette.json").exists()


@pytest.mark.parametrize(
    ("guidance", "palette", "evaluations"),
    [(1.0, "tan", 9), (1.7, "tan", 18), (1.7, "none", 9)],  # without a palette, nothing guides
)
def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    color, tmp_path, capsys, guidance, palette, evaluations
):
    """If this fails, a plan cannot be looked at before the night's work is started."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(9))
    flags = ("--dry_run", "--steps", 3, "--guidance_scale", guidance, "--palette", palette)
    flags += ("--memory", 1.5)
    color(source, tmp_path / "out.mkv", *flags)
    plan = json.loads(capsys.readouterr().out)
    assert plan["frames"] == 9 and plan["shots"] == [[0, 9]] and plan["windows"] == 3
    assert plan["network_evaluations"] == evaluations
    assert plan["device_memory_gib"].keys() == {"encode", "embed", "denoise", "decode"}
    assert plan["device_limit_gib"] == 1.5 and plan["host_memory_gib"] < 0.1
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--palette", "red,red,red,red,red,red,red"], "7 colors"),
        (["--palette", "#12"], "#12"),
        (["--palette", "wards:autumn"], "wards"),
        (["--palette", "words:xyzzy"], "xyzzy"),
        (["--palette", "words"], "text_table"),
        (["--palette", "words", "--tagger", "ouija"], "ouija"),
        (["--palette", "words:grass", "--words_server", "http://localhost:1"], "--words_model"),
        (["--palette", "words:grass", "--lexicon", "nowhere.tsv"], "nowhere.tsv"),
        (["--palette", "image:nowhere.png"], "nowhere.png"),
        (["--steps", "0"], "step"),
        (["--window", "0"], "window"),
        (["--solver", "ddim"], "ddim"),
        (["--seed", "-1"], "seed"),
        (["--devices", "2"], "2 devices of 1; give a number"),
        (["--dtype", "int8"], "int8"),
        (["--attention", "cudnn"], "auto or chunked"),
        (["--encode_batch", "0"], "encode_batch=0"),
        (["--memory", "-1"], "GiB"),
        (["--memory", "0.0001"], "lower --short_side"),
        (["--decode_chunk", "4"], "lengthen the chunk"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(color, tmp_path, capsys, flags, word):
    """If this fails, a mistyped flag ends in a traceback, or after the work is done."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    _refused(lambda: color(source, tmp_path / "out.mkv", *flags), capsys, word)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_wrong_files_are_refused_in_one_line(color, model, tmp_path, capsys):
    """If this fails, a wrong file gives a traceback, or leaves a file behind."""
    good = films.write_film(tmp_path / "good.mkv", films.lumas(3))
    text = tmp_path / "text.mp4"
    text.write_text("not a film")
    short = films.write_film(tmp_path / "cut.mp4", films.lumas(60), codec="libx264")
    films.truncate(short)
    empty = tmp_path / "empty"
    empty.mkdir()
    hollow = tmp_path / "hollow"
    hollow.mkdir()
    (hollow / "config.json").write_text((model / "config.json").read_text())
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "out.mkv"
    _refused(lambda: color(tmp_path / "missing.mp4", out), capsys, "missing.mp4")
    _refused(lambda: color(text, out), capsys, "text.mp4")
    _refused(lambda: color(short, out), capsys, "cut.mp4")
    _refused(lambda: color(empty, out), capsys, "empty")
    _refused(lambda: color(good, tmp_path / "nowhere" / "out.mkv"), capsys, "nowhere")
    _refused(lambda: color(good, good), capsys, "good.mkv")
    _refused(lambda: color(good, out, "--checkpoint", hollow), capsys, "unet.safetensors")
    _refused(lambda: color(good, out, "--checkpoint", tmp_path / "none"), capsys, "config.json")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_a_run_that_breaks_off_leaves_nothing(color, tmp_path, capsys, monkeypatch, error, code,
                                              word):  # fmt: skip
    """If this fails, a full disk or Ctrl-C leaves half a film under the given name."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(3))
    written = FilmWriter.write

    def write(self, frame, chroma):
        if frame.index == 1:
            raise error
        written(self, frame, chroma)

    monkeypatch.setattr(FilmWriter, "write", write)
    _refused(lambda: color(source, tmp_path / "out.mkv"), capsys, word, code)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "out.mkv.unfinished"}
    _refused(lambda: color(source, tmp_path / "out.mkv"), capsys, "and the same command goes", code)
    monkeypatch.undo()
    color(source, tmp_path / "out.mkv")
    assert not (tmp_path / "out.mkv.unfinished").exists() and (tmp_path / "out.mkv").exists()


def test_a_device_that_runs_out_of_memory_is_named_with_the_flag_that_helps(
    color, tmp_path, capsys, monkeypatch
):
    """If this fails, a film that is too large for the device ends in a traceback, half-written."""

    def decode(*given):
        yield next(decode_film(*given))
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 18876334080 bytes."
        )

    source = films.write_film(tmp_path / "in.mkv", films.lumas(20))
    monkeypatch.setattr(colorize, "decode_film", decode)
    given = source, tmp_path / "out.mkv", "--palette", "teal"
    _refused(lambda: color(*given), capsys, "18876334080 bytes; lower --dec")
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "out.mkv.unfinished"}
    monkeypatch.undo()
    # What the message advises does not cost the sampled latents.
    monkeypatch.setattr(job, "sample_latents", lambda *_, **__: 1 / 0)
    color(*given, "--decode_chunk", 5)


def test_networks_leave_a_small_device(color, tmp_path, monkeypatch):
    """If this fails, --memory is recorded, and the networks stay on the device all the same."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(3))
    model = tiny.CONFIG
    size, device = (16, 24), jax.local_devices()[0]
    settings = colorize.default_settings(model)
    held = memory_plan.weights(model, settings, device)
    temporary = memory_plan.temporaries(model, settings, size, device)
    together = max(memory_plan.needs(held, temporary, False).values())
    given = []
    load = colorize.load_networks
    monkeypatch.setattr(
        colorize,
        "load_networks",
        lambda *args, leaving, **options: (
            given.append(leaving) or load(*args, leaving=leaving, **options)
        ),
    )
    color(source, tmp_path / "out.mkv", "--memory", (together - 1) / 2**30)
    assert given == [True]
    record = json.loads((tmp_path / "out.run.json").read_text())
    assert record["settings"]["leaving"]


@pytest.mark.parametrize(
    ("source", "output", "palette"),
    [
        ("x.palette.png", "x.png", "tomato"),
        ("x.side_by_side.png", "x.png", "none"),
        ("in.png", "x.mkv", "image:x.palette.png"),
        ("in.png", "x.mkv", "file:x.palette.json"),
        ("in.png", "link.png", "image:x.png"),
        ("in.png", "x.png", "image:x.png"),
        ("in.png", "x.png", "words:grass"),  # its table of words is x.run.json
        ("clip", "clip/x.mkv", "tomato"),
        ("clip", "clip/out", "tomato"),
        ("clip", "clip/far.mkv", "tomato"),  # a link to another folder
    ],
)
def test_a_run_replaces_none_of_its_inputs(color, tmp_path, capsys, monkeypatch, source, output,
                                           palette):  # fmt: skip
    """If this fails, a source, a palette or a table is gone for a file written beside the film."""
    monkeypatch.chdir(tmp_path)
    pictures = films.lumas(2, full_range=True)
    for name in ("x.palette.png", "x.side_by_side.png", "in.png", "x.png"):
        if name in (source, palette.partition(":")[2]):
            Image.fromarray(pictures[0]).save(tmp_path / name)
    films.write_pictures(tmp_path / "clip", pictures)
    if palette.startswith("file:"):
        (tmp_path / "x.palette.json").write_text('{"colors": ["#804020"]}')
    if palette.startswith("words:"):
        (tmp_path / "x.run.json").write_text("grass\tthing\t#00ff00\n")
        monkeypatch.setenv("PALETTE_LEXICON", "x.run.json")
    if output == "clip/far.mkv":
        (tmp_path / output).symlink_to(tmp_path / "x.mkv")
    if output == "link.png":
        (tmp_path / output).symlink_to("x.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    word = "the folder of the source's frames" if source == "clip" else "the run reads this file"
    _refused(lambda: color(source, output, "--palette", palette), capsys, word)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["run.json", "side_by_side.png", "palette.json", "palette.png",
                                  "report.html"])  # fmt: skip
@pytest.mark.parametrize("record", [None, "mine", '{"output": "x.mp4", "weights_sha256": null}'])
def test_files_of_another_origin_are_not_replaced(color, tmp_path, capsys, name, record):
    """If this fails, a file of the user's, or of the run of another film, is replaced unasked."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    (tmp_path / f"x.{name}").write_text("mine")
    if record is not None:
        (tmp_path / "x.run.json").write_text(record)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    _refused(
        lambda: color(source, tmp_path / "x.mkv", "--report"), capsys, "exists; give --overwrite"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_output_is_replaced_only_where_that_is_asked_for(color, tmp_path, capsys):
    """If this fails, a night's film is lost to another run, or cannot be colored again at all."""
    folder = films.write_pictures(tmp_path / "frames", films.lumas(2, full_range=True))
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    for given, output in ((folder, tmp_path / "a.mkv"), (source, tmp_path / "b.mkv")):
        color(given, output, "--palette", "tomato")
        before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
        _refused(lambda: color(given, output, "--palette", "teal"), capsys, "--overwrite")  # noqa: B023
        assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before
        color(given, output, "--palette", "teal", "--overwrite")
        swatch = f"{output.stem}.palette.png"
        assert (tmp_path / swatch).read_bytes() != before[swatch]
    # Side files have no extension of their film's in their names.
    _refused(lambda: color(source, tmp_path / "b.mp4"), capsys, "b.run.json")


@pytest.mark.parametrize("kind", ["device", "fifo", "folder"])
@pytest.mark.parametrize("name", ["x", "x.mkv", "x.run.json", "x.palette.png"])
def test_nothing_but_files_is_replaced(color, tmp_path, capsys, kind, name):
    """If this fails, a device is replaced by a film, or the work is lost when it cannot be."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(2))
    special(tmp_path / name, kind)
    if kind == "folder":  # an empty one would take PNG frames
        (tmp_path / name / "mine").write_text("mine")
    before = {path: path.stat().st_mode for path in tmp_path.iterdir()}
    output = tmp_path / ("x.mkv" if "." in name else "x")
    _refused(lambda: color(source, output), capsys, name)
    assert {path: path.stat().st_mode for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("network", ["vae", "image_encoder", "unet"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_leave_nothing(color, model, tmp_path, capsys, network, value):
    """If this fails, a damaged checkpoint makes a film of garbage, and the exit code is 0."""
    source = films.write_film(tmp_path / "in.mkv", films.lumas(3))
    broken = shutil.copytree(model, tmp_path / "broken")
    tensors = load_file(broken / f"{network}.safetensors")
    names = [name for name in sorted(tensors) if name.endswith("kernel")]
    for name in [names[0], *(name for name in names if "decoder" in name)][-1:]:
        tensors[name] = np.full_like(tensors[name], value)
    save_file(tensors, broken / f"{network}.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call = lambda: color(source, tmp_path / "out.mkv", "--checkpoint", broken)  # noqa: E731
        _refused(call, capsys, "not finite", code=1)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mkv", "broken"}


def _refused(call, capsys, word: str, code: int = 2) -> None:
    """Check the exit code, and that the last thing said is one line with `word` in it."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        call()
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if "%|" not in line and "frame/s" not in line]
    assert stopped.value.code == code
    assert len(lines) == 1 and word in lines[0], said
