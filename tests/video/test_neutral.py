"""Areas that stay neutral: bars, titles, highlights."""

import cv2
import numpy as np
import pytest

from palette_vc_jax.video.neutral import OFF, Neutral, neutral_weight, neutralize
from palette_vc_jax.video.resize import merge_chroma, resize

DEFAULT = Neutral(0.12, 0.9)
RNG = np.random.default_rng(0)


def test_chroma_fades_out_near_black_and_white():
    """If this fails, a film has a visible step in its shadows, or medium tones lose color."""
    ramp = np.tile(np.linspace(0.0, 1.0, 1001, dtype=np.float32), (8, 1))
    weight = neutral_weight(ramp, DEFAULT)[4]
    assert not weight[:61].any() and not weight[951:].any()
    np.testing.assert_array_equal(weight[121:899], 1.0)
    assert np.abs(np.diff(weight)).max() < 0.04
    assert (np.diff(weight)[:500] >= 0.0).all() and (np.diff(weight)[500:] <= 0.0).all()
    assert weight[90] == pytest.approx(0.5, abs=0.02)


def test_off_changes_nothing():
    """If this fails, the paper's tables are not those of the model."""
    gray, chroma = RNG.random((9, 9), np.float32), RNG.random((9, 9, 2), np.float32)
    assert neutralize(gray, chroma, OFF) is chroma
    np.testing.assert_array_equal(neutral_weight(gray, OFF), 1.0)


def test_bars_and_titles_have_no_color():
    """If this fails, letters have colored edges, or the noise of letterbox bars is colored."""
    codes = np.clip(RNG.normal(6.0, 3.0, (360, 640)), 0, 255).astype(np.uint8)
    codes[90:270] = 120
    cv2.putText(codes, "Next morning", (60, 60), cv2.FONT_HERSHEY_DUPLEX, 1.5, 245, 2, cv2.LINE_AA)
    cv2.putText(codes, "A film", (60, 200), cv2.FONT_HERSHEY_DUPLEX, 3.0, 245, 12, cv2.LINE_AA)
    gray = (codes / 255.0).astype(np.float32)
    small = resize(gray, 112, 200)[..., None] + np.float32([0.1, 0.0, -0.1])
    before = np.abs(merge_chroma(gray, small, "bt601")).max(-1)
    after = np.abs(merge_chroma(gray, small, "bt601", DEFAULT)).max(-1)
    assert before[:90].max() > 0.03
    assert after[:90].max() < 0.002 and after[270:].max() < 0.002
    assert before[gray > 0.95].max() > 0.015 and not after[gray > 0.95].any()
    flat = cv2.erode((codes == 120).astype(np.uint8), np.ones((5, 5))) > 0
    np.testing.assert_array_equal(after[flat], before[flat])
