"""Flow from files: what is read, and what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.evaluation.clips import refused, run


def flow_folder(folder: Path, clips: dict[str, int]) -> Path:
    """Write flow of no motion for clips of so many frames."""
    for clip, count in clips.items():
        for way in ("forward", "backward"):
            (folder / clip / way).mkdir(parents=True)
            for index in range(count - 1):
                path = folder / clip / way / f"{index:03}.flo"
                cv2.writeOpticalFlow(str(path), np.zeros((32, 40, 2), np.float32))
    return folder


def flo(width: int, height: int, values: bytes = b"", magic: bytes = b"PIEH") -> bytes:
    return magic + np.array([width, height], "<i4").tobytes() + values


def test_given_flow_is_followed(films, tmp_path):
    """If this fails, the flow of another pair of frames is taken, or flow is computed anyway."""
    for clip, count in (("a", 5), ("b", 6)):
        for way, sign in (("forward", 1.0), ("backward", -1.0)):
            folder = tmp_path / "flow" / clip / way
            folder.mkdir(parents=True)
            for index in range(count):
                flow = np.zeros((32, 40, 2), np.float32)
                flow[..., 0] = sign  # `frames` moves by a pixel
                cv2.writeOpticalFlow(str(folder / f"{index:03}.flo"), flow)
            (folder / "._000.flo").write_bytes(b"from a Mac")
    assert run(films, "--flow", tmp_path / "flow", metrics="warp_error") == 0
    rows = json.loads((films / "out.json").read_text())["rows"]
    assert rows["truth"]["clips"]["a"]["warp_error"] == pytest.approx(0.0, abs=1e-9)
    assert rows["mine"]["clips"]["a"]["warp_error"] > 0.01


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "not a .flo file"),
        (b"PIEH", "not a .flo file"),
        (flo(40, 32, bytes(8 * 40 * 32), b"PIEX"), "not a .flo file"),
        (flo(-1, -1), "-1x-1"),
        (flo(-40, -32, bytes(8 * 40 * 32)), "-40x-32"),
        (flo(0, 32), "0x32"),
        (flo(2**31 - 1, 2**31 - 1), "2147483647"),
        (flo(40, 32, bytes(8 * 40 * 32 - 1)), "40x32"),
        (flo(40, 32, bytes(8 * 40 * 32 + 1)), "40x32"),
    ],
)
def test_damaged_flow_is_refused_before_anything_is_measured(films, capsys, content, word):
    """If this fails, a size that a damaged header claims crashes the process."""
    flows = flow_folder(films / "flow", {"a": 6, "b": 7})
    (flows / "b" / "backward" / "003.flo").write_bytes(content)
    words = ("b/backward/003.flo", word)
    refused(films, capsys, *words, flags=("--flow", flows), metrics="warp_error")


def test_flow_that_is_not_finite_is_a_gap(films):
    """If this fails, a warp error is a mean of nothing."""
    flows = flow_folder(films / "flow", {"a": 6, "b": 7})
    values = np.full((32, 40, 2), np.nan, "<f4").tobytes()
    (flows / "a" / "forward" / "002.flo").write_bytes(flo(40, 32, values))
    assert run(films, "--flow", flows, metrics="warp_error") == 0
    gaps = json.loads((films / "out.json").read_text())["gaps"]
    assert "002.flo" in gaps["mine, a, warp_error"] and "mine, b, warp_error" not in gaps


@pytest.mark.parametrize("name", ["negative.flo", "huge.flo"])
def test_flow_files_that_crashed_opencv_are_refused(films, shared, capsys, name):
    """If this fails, the process ends in a signal or in a traceback."""
    path = shared / "reviews" / "inputs" / name
    if not path.is_file():
        pytest.skip("needs ../shared/reviews/inputs")
    flows = flow_folder(films / "flow", {"a": 6, "b": 7})
    (flows / "a" / "forward" / "000.flo").write_bytes(path.read_bytes())
    refused(films, capsys, "000.flo", flags=("--flow", flows), metrics="warp_error")
