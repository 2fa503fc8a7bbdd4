"""The colors of the example film, as they were: any change of them is meant, or a defect."""

from pathlib import Path

import av
import numpy as np

from palette_vc_jax.commands import sample
from tests.commands import command

FILM = Path(__file__).resolve().parents[2] / "examples" / "bikes.mp4"
GOLDEN = Path(__file__).with_name("bikes_chroma.npy")
FRAMES = 8
# Other CPUs and numbers of threads round 1 value in 400,000 to the next code, measured with SSE4.2,
# AVX2 and AVX-512, and with one thread and two: 1/512 of a block's mean each.
TOLERANCE = 5 / 512


def block_means(folder: Path) -> np.ndarray:
    """Color the first frames with a fixed palette; return means of blocks of U and V."""
    with av.open(str(FILM)) as source, av.open(str(folder / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for _, packet in zip(range(FRAMES), source.demux(source.streams.video[0]), strict=False):
            packet.stream = stream
            target.mux(packet)
    flags = {
        "--input": folder / "cut.mp4",
        "--output": folder / "out.mkv",
        "--palette": "tomato,teal,khaki",
        "--seed": 7,
        "--steps": 2,
    }
    assert command(sample.main, *[item for pair in flags.items() for item in pair]) == 0
    with av.open(str(folder / "out.mkv")) as colored:
        frames = np.stack([frame.to_ndarray() for frame in colored.decode(video=0)])
    chroma = frames[:, 1:].reshape(FRAMES, 2, 17, 16, 20, 32)  # [T, UV, H, 16, W, 32]
    return chroma.mean((3, 5)).astype(np.float32)


def test_the_example_film_keeps_its_colors(tmp_path):
    """If this fails, colors have changed: name the reason in CHANGELOG.md, and write GOLDEN anew.

    `python -c "import pathlib, numpy as np; from tests.sampling import test_golden as t;
    np.save(t.GOLDEN, t.block_means(pathlib.Path('/tmp')))"` writes it.
    """
    np.testing.assert_allclose(block_means(tmp_path), np.load(GOLDEN), rtol=0.0, atol=TOLERANCE)
