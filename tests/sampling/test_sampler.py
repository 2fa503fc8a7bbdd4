"""The sampler on a toy network: its two stores, blending, cuts, padding, noise, guidance.

The toy mixes the frames of a window (neighbors, mean, place in the window) and every condition, so
that a wrong frame, weight or condition anywhere changes the result.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palette_vc_jax.sampling import sampler
from palette_vc_jax.sampling.sampler import STORES, film_bytes, sample, sample_film
from palette_vc_jax.sampling.settings import (
    FilmConditions,
    Known,
    SamplerSettings,
    frame_noise,
)
from palette_vc_jax.sampling.windows import group_shots, pad, plan_windows

C = 2
SHOTS = [(0, 11), (11, 12), (12, 15), (15, 24)]
SEEDS = [7] * len(SHOTS)
SETTINGS = SamplerSettings(
    steps=4, sigma_min=0.02, sigma_max=40.0, window=5, overlap=2, windows_per_batch=3
)
_RNG = np.random.default_rng(0)
PARAMS = {
    name: jnp.asarray(_RNG.normal(size=shape) * scale, jnp.float32)
    for name, shape, scale in [
        ("inputs", (2 * C, C), 0.5),
        ("neighbors", (3, C, C), 0.4),
        ("context", (4, C), 0.5),
        ("palette", (15, C), 0.3),
        ("ids", (3, C), 0.1),
    ]
}


def toy(params, inputs, c_noise, context, added_time_ids, palette, palette_mask, regions):
    """Stand for the UNet: [K, T, h, w, 2C] -> [K, T, h, w, C]."""
    x = inputs @ params["inputs"]
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    frames = x.shape[1]
    mixed = sum(padded[:, i : i + frames] @ params["neighbors"][i] for i in range(3))
    colors = palette_mask[..., None] * (palette @ params["palette"])
    if regions is None:
        colors = colors[:, None, None, None]
    else:
        colors = jnp.einsum("kthwr,krc->kthwc", regions, colors)
    per_window = (
        context.mean(1) @ params["context"] + added_time_ids @ params["ids"] + c_noise[:, None]
    )
    place = 0.1 * jnp.arange(frames, dtype=jnp.float32)[:, None, None, None]
    pooled = x.mean((1, 2, 3), keepdims=True)
    return jnp.tanh(mixed + pooled + place + colors + per_window[:, None, None, None])


def with_regions(given, mask=1.0) -> FilmConditions:
    """Add a second region to each shot, with a palette and a map of its own."""
    rng = np.random.default_rng(2)
    share = rng.uniform(size=given.gray.shape[:3]).astype(np.float32)
    palette = np.stack([given.palette, -given.palette], axis=1)
    masks = np.stack([given.palette_mask, mask * np.ones_like(given.palette_mask)], axis=1)
    regions = np.stack([1.0 - share, share], axis=-1)
    return given._replace(palette=palette, palette_mask=masks, regions=regions)


def with_keyframes(given, frames=(3, 20), followed=False) -> FilmConditions:
    """Add keyframes; if `followed`, the next frame takes half of the first one's change."""
    shape = (len(frames), *given.gray.shape[1:])
    latents = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    pixels = np.arange(len(frames) * shape[1] * shape[2]).reshape(shape[:3])
    source = np.zeros((*given.gray.shape[:3], 2), np.int32)
    weight = np.zeros(source.shape, np.float32)
    source[list(frames), ..., 0], weight[list(frames), ..., 0] = pixels, 1.0
    if followed:
        source[frames[0] + 1, ..., 1], weight[frames[0] + 1, ..., 1] = pixels[0], 0.5
        source[frames[0] + 5, ..., 0], weight[frames[0] + 5, ..., 0] = pixels[0], 0.5
    return given._replace(known=Known(np.array(frames), latents, source, weight))


def conditions(shots=SHOTS, seed=1, mask=1.0) -> FilmConditions:
    rng = np.random.default_rng(seed)
    frames = shots[-1][1]
    return FilmConditions(
        gray=rng.normal(size=(frames, 3, 4, C)).astype(np.float32),
        context=rng.normal(size=(len(shots), 2, 4)).astype(np.float32),
        added_time_ids=np.array([0.6, 1.27, 0.0], np.float32),
        palette=rng.uniform(-1, 1, (len(shots), 15)).astype(np.float32),
        palette_mask=np.full(len(shots), mask, np.float32),
    )


def run(store="host", shots=SHOTS, given=None, seed=7, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    given = conditions(shots) if given is None else given
    return sample(toy, PARAMS, given, shots, settings, [seed] * len(shots), store=store)


def assert_close(a, b, tolerance=1e-5):
    np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), rtol=0)


@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m"])
@pytest.mark.parametrize("blending", ["step", "final"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"window_mode": "anchored", "window_weights": "uniform"},
        {"guidance_scale": 2.5},
        {"guidance_scale": 2.5, "guidance": "svd", "windows_per_batch": 1},
    ],
    ids=["sliding", "anchored", "palette", "svd"],
)
def test_stores_give_the_same_film(solver, blending, changes):
    """If this fails, a long film gets other colors than a short one."""
    changes = {"solver": solver, "blending": blending, **changes}
    device, host = (run(store, **changes) for store in STORES)
    assert device.dtype == host.dtype == np.float32 and device.shape == (24, 3, 4, C)
    assert_close(device, host)


@pytest.mark.parametrize("blending", ["step", "final"])
@pytest.mark.parametrize("changes", [{}, {"guidance_scale": 2.5}])
def test_regions_and_keyframes_in_both_stores(blending, changes):
    """If this fails, regions or keyframes give a long film other colors than a short one."""
    given = with_keyframes(with_regions(conditions()), followed=True)
    changes = {"blending": blending, "solver": "dpmpp_2m", "given": given, **changes}
    assert_close(run("device", **changes), run("host", **changes))


def test_one_region_is_the_palette():
    """If this fails, a region that covers every frame changes the colors of the paper's palette."""
    given = conditions()
    one = given._replace(
        palette=given.palette[:, None],
        palette_mask=given.palette_mask[:, None],
        regions=np.ones((*given.gray.shape[:3], 1), np.float32),
    )
    for store in STORES:
        np.testing.assert_array_equal(run(store, given=one), run(store, given=given))


def test_equal_palettes_in_all_regions_are_one_palette():
    """If this fails, the shares of the regions change the strength of the palette."""
    given = conditions()
    split = with_regions(given)
    split = split._replace(palette=np.repeat(given.palette[:, None], 2, axis=1))
    assert_close(run(given=split), run(given=given), 1e-6)


def test_regions_follow_their_frames():
    """If this fails, a window takes the regions of other frames, or another region's palette."""
    given = with_regions(conditions())
    swapped = given._replace(
        palette=given.palette[:, ::-1], palette_mask=given.palette_mask[:, ::-1]
    )
    swapped = swapped._replace(regions=given.regions[..., ::-1])
    assert_close(run(given=swapped), run(given=given), 1e-6)
    moved = given._replace(regions=np.roll(given.regions, 1, axis=0))
    assert np.abs(run(given=moved) - run(given=given)).max() > 1e-3


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_null_palette_in_a_region(guidance_scale):
    """If this fails, a region without a palette still reads one."""
    given = with_regions(conditions(), mask=0.0)
    other = given._replace(palette=given.palette * np.array([1.0, -3.0])[:, None])
    settings = {"guidance_scale": guidance_scale}
    np.testing.assert_array_equal(run(given=given, **settings), run(given=other, **settings))
    assert np.abs(run(given=given, **settings) - run(given=conditions(), **settings)).max() > 1e-3


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("changes", [{}, {"solver": "dpmpp_2m"}, {"blending": "final"}])
def test_keyframes_are_kept_and_seen(store, changes):
    """If this fails, a corrected frame is not in the film, or does not steer its neighbors."""
    given = with_keyframes(conditions())
    film, without = run(store, given=given, **changes), run(store, **changes)
    assert_close(film[given.known.frames], given.known.latents)
    difference = np.abs(film - without).max((1, 2, 3))
    assert (difference[[0, 2, 4, 19, 23]] > 1e-3).all()  # they share a window with a keyframe
    assert (difference[11:15] == 0.0).all()  # other shots


@pytest.mark.parametrize("store", STORES)
def test_a_frame_takes_the_change_of_a_keyframe(store):
    """If this fails, the shot of a keyframe does not follow it at high noise levels."""
    alone, followed = (with_keyframes(conditions(), followed=way) for way in (False, True))
    one, two = (run(store, given=given, steps=1) for given in (alone, followed))
    # After one step to sigma 0 the result is the estimate.
    change = alone.known.latents[0] - run(store, steps=1, given=conditions())[3]
    difference = np.abs(two - one).max((1, 2, 3))
    assert difference[4] > 0.1 and (difference[[0, 1, 2, 3, 5, 6]] == 0.0).all()
    assert np.corrcoef((two - one)[4].ravel(), change.ravel())[0, 1] > 0.9


def test_settings_matter():
    """If this fails, an option is accepted and does nothing."""
    base = run()
    for changes in [
        {"solver": "dpmpp_2m"},
        {"blending": "final"},
        {"window_mode": "anchored"},
        {"window_weights": "uniform"},
        {"guidance_scale": 2.0},
        {"overlap": 1},
        {"rho": 3.0},
        {"sigma_max": 41.0},
        {"seed": 8},
    ]:
        assert np.abs(run(**changes) - base).max() > 1e-3, changes
    svd, palette = (run(guidance_scale=2.0, guidance=kind) for kind in ("svd", "palette"))
    assert np.abs(svd - palette).max() > 1e-3


def reference(settings, given, shots, seed, blended):
    """Sample step by step in float64 as the formulas are written, blending v, D or latents."""
    plan = plan_windows(
        shots, settings.window, settings.overlap, settings.window_mode, settings.window_weights
    )
    sigmas = settings.sigmas().astype(np.float64)
    gray, context, ids, palette, mask, *_ = given
    x = frame_noise(seed, 0, plan.frames, gray.shape[1:]).astype(np.float64)
    x *= np.sqrt(settings.sigma_max**2 + 1)
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        blend = np.zeros_like(x)
        for indices, weights, shot in zip(plan.indices, plan.weights, plan.shot, strict=True):
            inputs = np.concatenate([x[indices] / np.sqrt(sigma**2 + 1), gray[indices]], axis=-1)
            v = np.asarray(
                toy(
                    PARAMS,
                    jnp.asarray(inputs[None], jnp.float32),
                    jnp.asarray([0.25 * np.log(sigma)], jnp.float32),
                    context[shot][None],
                    ids[None],
                    palette[shot][None],
                    mask[shot][None],
                    None,
                )
            )[0].astype(np.float64)
            estimate = -sigma / np.sqrt(sigma**2 + 1) * v + x[indices] / (sigma**2 + 1)
            stepped = x[indices] + (x[indices] - estimate) / sigma * (after - sigma)
            value = {"v": v, "D": estimate, "latents": stepped}[blended]
            np.add.at(blend, indices, weights[:, None, None, None] * value)
        if blended == "v":
            blend = -sigma / np.sqrt(sigma**2 + 1) * blend + x / (sigma**2 + 1)
        x = blend if blended == "latents" else x + (x - blend) / sigma * (after - sigma)
    return x


@pytest.mark.parametrize("blended", ["v", "D", "latents"])
@pytest.mark.parametrize("mode", ["sliding", "anchored"])
def test_written_formulas(blended, mode):
    """If this fails, the sampler is not SVD's Euler sampler, or what is blended matters."""
    settings = dataclasses.replace(SETTINGS, window_mode=mode)
    expected = reference(settings, conditions(), SHOTS, 7, blended)
    assert_close(run(window_mode=mode), expected)


def test_final_blending_averages_windows():
    """If this fails, windows see one another before the end."""
    shots = [(0, 8)]
    given = conditions(shots)
    film = run(shots=shots, given=given, blending="final", window_weights="uniform")
    noise = frame_noise(7, 0, 8, (3, 4, C)) * np.float32(np.sqrt(40.0**2 + 1))
    plan = SETTINGS.plan([(0, 5)])
    parts = [
        sample_film(
            toy, PARAMS, noise[s].copy(), given._replace(gray=given.gray[s]), plan, SETTINGS
        )
        for s in (slice(0, 5), slice(3, 8))
    ]
    expected = np.concatenate([parts[0][:3], (parts[0][3:] + parts[1][:2]) / 2, parts[1][2:]])
    assert_close(film, expected)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("blending", ["step", "final"])
@pytest.mark.parametrize("keyed", [False, True])
def test_batch_size_does_not_matter(store, blending, keyed):
    """If this fails, the result depends on the memory of the machine."""
    given = with_keyframes(conditions(), followed=True) if keyed else conditions()
    one = run(store, given=given, blending=blending, windows_per_batch=1)
    assert_close(run(store, given=given, blending=blending, windows_per_batch=3), one)
    assert_close(run(store, given=given, blending=blending, windows_per_batch=16), one)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("blending", ["step", "final"])
def test_padding_does_not_count(store, blending):
    """If this fails, windows that only fill a batch change the film, here by infinite palettes."""
    shots = [(0, 9), (9, 10)]  # the second shot is there for the padding to point at
    given = conditions(shots)
    given.palette[1] = np.inf  # tanh(inf - inf) is NaN
    settings = dataclasses.replace(SETTINGS, blending=blending)
    plan = plan_windows(shots, 5, 2)
    padded = pad(plan, 8)
    assert padded.windows - plan.windows == 4 and plan.shot[-1] == 1

    def drive(network, noise, given, plan):
        film = network, PARAMS, noise.copy(), given, plan, settings
        return np.asarray(sample_film(*film, store=store))

    def first_shot_only(plan):
        return dataclasses.replace(plan, weights=plan.weights * (plan.shot == 0)[:, None])

    noise = frame_noise(7, 0, 10, (3, 4, C)) * 40
    own = FilmConditions(
        given.gray[:9], given.context[:1], given.added_time_ids, given.palette[:1], 1.0
    )
    clean = drive(toy, noise[:9], own, plan_windows([(0, 9)], 5, 2))
    assert_close(drive(poisoned, noise, given, first_shot_only(padded))[:9], clean)


def poisoned(params, inputs, c_noise, context, added_time_ids, palette, palette_mask, regions):
    """Return the toy's output, and infinity for windows whose palette is infinite."""
    infinite = jnp.isinf(palette).any(1)
    finite = jnp.where(infinite[:, None], 0.0, palette)
    output = toy(params, inputs, c_noise, context, added_time_ids, finite, palette_mask, None)
    return jnp.where(infinite[:, None, None, None, None], jnp.inf, output)


@pytest.mark.parametrize("store", STORES)
def test_cuts_are_not_crossed(store):
    """If this fails, a shot's color depends on the shots around it."""
    given = conditions()
    changed = given._replace(
        gray=given.gray.copy(), context=given.context.copy(), palette=given.palette.copy()
    )
    changed.gray[4] += 1.0
    changed.context[0] += 1.0
    changed.palette[0] *= -1.0
    one, two = run(store, given=given), run(store, given=changed)
    np.testing.assert_array_equal(one[11:], two[11:])
    assert (np.abs(one[:11] - two[:11]).max((1, 2, 3)) > 1e-4).all()


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("frames", [1, 2, 4, 5, 6, 7, 8])
def test_any_length(store, frames):
    """If this fails, images, short shots and lengths that fit no stride fail."""
    shots = [(0, frames)]
    latents = run(store, shots=shots)
    assert latents.shape == (frames, 3, 4, C) and np.isfinite(latents).all()
    if frames <= 5:  # one window: there is nothing to blend
        assert_close(run(store, shots=shots, blending="final"), latents)


def test_runs_of_shots_give_the_film():
    """If this fails, a film sampled run by run, for its length, changes its colors."""
    given = conditions()
    film = run(given=given)
    parts = []
    for group in group_shots(SHOTS, 12):
        frames = slice(group[0][0], group[-1][1])
        own = [SHOTS.index(shot) for shot in group]
        part = FilmConditions(
            given.gray[frames], given.context[own], given.added_time_ids, given.palette[own], 1.0
        )
        parts.append(run(shots=group, given=part))
    assert len(parts) > 1
    assert_close(np.concatenate(parts), film)


def test_longer_film_keeps_its_beginning():
    """If this fails, adding a shot at the end changes the shots before it."""
    given = conditions()
    short = FilmConditions(
        given.gray[:15], given.context[:3], given.added_time_ids, given.palette[:3], 1.0
    )
    assert_close(run(shots=SHOTS[:3], given=short), run(given=given)[:15])


def test_null_palette():
    """If this fails, the null palette is still read, or guidance toward it costs evaluations."""
    given = conditions(mask=0.0)
    other = given._replace(palette=-given.palette)
    np.testing.assert_array_equal(run(given=given), run(given=other))
    np.testing.assert_array_equal(run(given=given), run(given=given, guidance_scale=3.0))


def test_one_palette_for_the_film():
    """If this fails, a palette given once does not reach every shot."""
    given = conditions()
    once = given._replace(palette=given.palette[0], palette_mask=1.0)
    each = given._replace(palette=np.repeat(given.palette[:1], len(SHOTS), axis=0))
    np.testing.assert_array_equal(run(given=once), run(given=each))


def test_progress_and_choice_of_store(monkeypatch):
    """If this fails, a progress bar stands still or overruns, or a long film fills the device."""
    calls, puts = [], []
    for name, store in STORES.items():
        put = store._replace(put=lambda tree, n=name, p=store.put: (puts.append(n), p(tree))[1])
        monkeypatch.setitem(STORES, name, put)
    given = conditions()
    sample(toy, PARAMS, given, SHOTS, SETTINGS, SEEDS, progress=lambda *c: calls.append(c))
    assert set(puts) == {"device"}
    puts.clear()
    monkeypatch.setattr(sampler, "DEVICE_BYTES", film_bytes(given.gray.shape) - 1)
    sample(toy, PARAMS, given, SHOTS, SETTINGS, SEEDS)
    assert set(puts) == {"host"}
    plan = SETTINGS.plan(SHOTS)
    total = plan.windows // plan.batch * SETTINGS.steps
    assert calls == [(done, total) for done in range(1, total + 1)]
    assert film_bytes((24, 3, 4, C)) == 24 * 3 * 4 * C * 16
    with pytest.raises(ValueError, match="auto, device, host"):
        sample(toy, PARAMS, given, SHOTS, SETTINGS, SEEDS, store="disk")


def test_the_network_is_compiled_once():
    """If this fails, each film, or each shot of a film, waits minutes for the compiler."""
    traces = []

    def counting(*arguments):
        traces.append(arguments[1].shape)
        return toy(*arguments)

    for frames in (9, 14, 30):
        for store in STORES:
            shots = [(0, frames)]
            sample(
                counting, PARAMS, conditions(shots), shots, SETTINGS, [7] * len(shots), store=store
            )
    for changes in ({"sigma_max": 20.0, "guidance_scale": 2.0}, {"blending": "final", "steps": 2}):
        settings = dataclasses.replace(SETTINGS, **changes)
        sample(counting, PARAMS, conditions(shots), shots, settings, [7])
    assert traces == [(3, 5, 3, 4, 2 * C)]


def test_low_precision_network():
    """If this fails, the sampler's state has the network's precision and loses small sigmas."""

    def half(*arguments):
        return toy(*arguments).astype(jnp.bfloat16)

    for store in STORES:
        latents = sample(half, PARAMS, conditions(), SHOTS, SETTINGS, SEEDS, store=store)
        assert latents.dtype == np.float32
        assert_close(latents, run(store), 0.02)


@pytest.mark.parametrize("store", STORES)
def test_values_that_are_not_finite(store):
    """If this fails, a network that overflows writes a black film."""

    def broken(params, inputs, *rest):
        return inputs[..., :C] * jnp.nan

    with pytest.raises(FloatingPointError, match="not finite"):
        sample(broken, PARAMS, conditions(), SHOTS, SETTINGS, SEEDS, store=store)


def test_one_window_device_memory():
    """If this fails, the host's store puts the whole film on the device, not a batch of windows."""
    shapes = []

    def recording(*arguments):
        shapes.extend(leaf.shape for leaf in jax.tree.leaves(arguments[1:]))
        return toy(*arguments)

    shots = [(0, 400)]
    sample(recording, PARAMS, conditions(shots), shots, SETTINGS, [7] * len(shots), store="host")
    assert max(np.prod(shape) for shape in shapes) == 3 * 5 * 3 * 4 * 2 * C
