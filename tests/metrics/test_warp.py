"""The warp error on motion that is known."""

import cv2
import numpy as np
import pytest

from palette_vc_jax.metrics import warp
from palette_vc_jax.video.flow import Flow, dis_flow, seen

HEIGHT, WIDTH, STEP = 48, 64, 3


def moved(steps: int) -> np.ndarray:
    """Return a soft picture `[H, W, 3]` moved to the right by `steps` pixels."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    columns = columns - steps
    waves = [np.sin(columns / a) * np.cos(rows / b) for a, b in ((5, 7), (9, 4), (6, 11))]
    return 0.5 + 0.4 * np.stack(waves, axis=-1)


def constant(x: float) -> np.ndarray:
    flow = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    flow[..., 0] = x
    return flow


def test_motion_that_is_followed_is_no_error():
    """If this fails, the flow is followed the other way, or rows and columns are mixed up."""
    flow = Flow(constant(STEP), seen(constant(STEP), constant(-STEP)))
    assert warp.warp_error(moved(0), moved(STEP), flow) < 1e-6
    assert warp.warp_error(moved(STEP), moved(0), flow) > 1e-2
    still = Flow(constant(0), np.ones((HEIGHT, WIDTH), np.float32))
    assert warp.warp_error(moved(0), moved(STEP), still) > 1e-2


def test_what_leaves_the_picture_is_not_seen():
    """If this fails, pixels without a counterpart count as change."""
    mask = seen(constant(STEP), constant(-STEP))
    assert (mask[:, : WIDTH - STEP] == 1.0).all() and (mask[:, WIDTH - STEP :] == 0.0).all()
    disagreeing = seen(constant(STEP), constant(STEP))
    assert (disagreeing == 0.0).all()


def test_the_error_is_a_mean_over_what_is_seen():
    """If this fails, hidden pixels dilute the error, or channels are summed."""
    first = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    second = np.full_like(first, 0.5)
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[:5, :7] = 1.0
    assert warp.warp_error(first, second, Flow(constant(0), mask)) == pytest.approx(0.25)
    assert np.isnan(warp.warp_error(first, second, Flow(constant(0), 0.0 * mask)))


def test_dis_finds_the_motion():
    """If this fails, the computed flow has another direction or unit than a given one."""
    first, second = (np.rint(255.0 * moved(s)[..., 0]).astype(np.uint8) for s in (0, STEP))
    flow = dis_flow(first, second)
    inside = flow.offsets[12:-12, 12:-16]
    assert np.median(inside[..., 0]) == pytest.approx(STEP, abs=0.5)
    assert np.median(inside[..., 1]) == pytest.approx(0.0, abs=0.5)


def test_given_flow_is_read_in_the_order_of_its_numbers(tmp_path):
    """If this fails, the tenth file is taken for the second, or a missing one is accepted."""
    for way, sign in (("forward", 1), ("backward", -1)):
        (tmp_path / way).mkdir()
        for index in range(12):
            path = str(tmp_path / way / f"{index}.flo")
            cv2.writeOpticalFlow(path, constant(sign * (1.0 + index)))
    warp.check_flow(tmp_path, 13)
    assert (warp.read_flow(tmp_path, 2).offsets[..., 0] == 3.0).all()
    for frames in (12, 14):
        with pytest.raises(ValueError, match=f"12 .flo files for {frames} frames"):
            warp.check_flow(tmp_path, frames)
    (tmp_path / "forward" / "0.flo").write_bytes(b"no flow")
    with pytest.raises(ValueError, match="not a .flo file"):
        warp.read_flow(tmp_path, 0)
