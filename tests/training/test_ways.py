"""The UNet's task on a tiny model: ways to train, the ablation, data sources, bad configs."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from PIL import Image

from palette_vc_jax.data import sources
from palette_vc_jax.models import functional, networks
from palette_vc_jax.models.config import PRESETS
from palette_vc_jax.models.store import load_model
from palette_vc_jax.palette import gmm
from palette_vc_jax.parallel import placement
from palette_vc_jax.parallel.mesh import AXES, make_mesh
from palette_vc_jax.training import (
    batches,
    checks,
    loop,
    mixture,
    tasks,
    trainable,
    unet_task,
    weights,
)
from palette_vc_jax.training.aot.flops import step_flops
from palette_vc_jax.training.config import load, read
from palette_vc_jax.training.step import place_step
from tests import films, tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"), tiny.SMALL)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Write four clips of blurred noise."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for clip in range(4):
        pictures = []
        for _ in range(6):
            coarse = Image.fromarray(rng.integers(0, 256, (4, 6, 3)).astype(np.uint8))
            pictures.append(np.asarray(coarse.resize((36, 24), Image.Resampling.BICUBIC)))
        films.write_pictures(folder / f"clip{clip}", pictures)
    return folder


@pytest.fixture
def config(model, clips):
    """Return `config(name, **changes)`: its runlocal variant for the tiny model and these clips."""

    def make(name="davis", **changes):
        made = load(name, "runlocal")
        given = {
            "init_from": str(model), "batch_size": 2, "save_every": 3, "validate_every": 3,
            "log_every": 1, "optimizer.steps": 3, "optimizer.warmup_steps": 1,
            "optimizer.learning_rate": 1e-2, "data.root": str(clips), "data.size": (16, 24),
            "data.short_sides": (16, 24), "data.frames": 5, "data.window": 3, "data.crops": 1,
            "data.hold_out_every": 4, "validation_clips": 2, "validation_sigmas": (1.0,),
            "export_dtype": "float16",
        }  # fmt: skip
        made.update_from_flattened_dict(given | changes)
        return read(made)

    return make


def _trained(made, workdir):
    """Run to the end; return flat weights before and after."""
    loop.run(tasks.make_task(made), made, workdir)
    before, after = (load_model(f).params for f in (made.init_from, workdir / "model"))
    return functional.flatten(before), functional.flatten(after)


def _moved(before, after):
    # The export is in float16: frozen weights differ by its rounding alone.
    return {k for k in before if np.any(before[k].astype(np.float16) != after[k])}


@pytest.mark.parametrize("patterns", [("palette", "temporal"), ("image_encoder",)])
def test_only_what_is_named_moves(config, tmp_path, patterns):
    """If this fails, frozen weights are trained, or trained ones lost in the exported model."""
    made = config(trained=patterns)
    task = tasks.make_task(made)
    names = set(functional.flatten(task.init()))
    frozen = set(functional.flatten(task.frozen))
    before, after = _trained(made, tmp_path)
    assert names == trainable.select(before, patterns)
    networks = ("unet.", "image_encoder.") if "image_encoder" in patterns else ("unet.",)
    assert names | frozen == {k for k in before if k.startswith(networks)} and not names & frozen
    moved = _moved(before, after)
    assert moved <= names
    still = {
        name for name in names - moved if "attn2.to_q" not in name and "attn2.to_k" not in name
    }
    assert len(still) < 0.3 * len(names), still  # norms before cross attention; float16 steps


def test_lora_trains_its_pairs_and_exports_their_sum(config, tmp_path):
    """If this fails, LoRA moves a kernel itself, or sampling sees other weights than training."""
    changes = {"lora.rank": 2, "lora.alpha": 8.0, "data.hold_out_every": 0}
    made = config(trained=("palette",), **changes)
    task = tasks.make_task(made)
    start = functional.flatten(task.init())
    pairs = {name for name in start if name.startswith("lora.")}
    assert {name for name in start if name not in pairs} == {
        "unet.palette_embedding.kernel",
        "unet.palette_embedding.bias",
    }
    assert {name.rsplit(".", 1)[1] for name in pairs} == {"a", "b"}
    exported = {}
    loop.run(
        task._replace(export=lambda params, *rest: exported.update(params)), made, tmp_path / "run"
    )
    end = functional.flatten(exported)
    assert all(np.any(end[name] != start[name]) for name in start)
    task.export(exported, made.optimizer.steps, tmp_path / "model")
    before = functional.flatten(load_model(made.init_from).params)
    whole = load_model(tmp_path / "model").params
    moved = _moved(before, functional.flatten(whole))
    assert moved <= {name.removeprefix("lora.").rsplit(".", 1)[0] + ".kernel" for name in pairs} | (
        set(start) - pairs
    )
    assert len(moved) > len(pairs) // 2
    # The step's forward pass is that of the exported weights.
    batch, key = next(task.batches(0)), jax.random.key(0)
    plain = tasks.make_task(
        config(**{"init_from": str(tmp_path / "model"), "data.hold_out_every": 0})
    )
    in_step = jax.jit(task.loss)(exported, task.frozen, batch, key)[0]
    alone = jax.jit(plain.loss)(plain.init(), plain.frozen, batch, key)[0]
    untrained = jax.jit(task.loss)(task.init(), task.frozen, batch, key)[0]
    assert abs(in_step - alone) < 2e-3 * alone < 0.2 * abs(untrained - alone)


def test_the_ablation_never_reads_the_palette(config, tmp_path):
    """If this fails, the model retrained without the palette branch has seen palettes."""
    made = config("davis_nopalette")
    task, other = tasks.make_task(made), tasks.make_task(config())
    names = functional.flatten(task.init())
    assert not any("palette_embedding" in name for name in names)
    layer = task.frozen["unet"]["palette_embedding"]
    assert not np.any(layer["kernel"]) and not np.any(layer["bias"])

    def losses(task, frozen, params):
        step = jax.jit(task.loss)
        batch, key = next(task.batches(0)), jax.random.key(0)
        turned = batch | {"palette": -batch["palette"]}
        return [float(step(params, frozen, b, key)[0]) for b in (batch, turned)]

    # The palette is ignored even if the layer is not zero.
    random = {"unet": {"palette_embedding": jax.tree.map(jnp.ones_like, layer)}}
    one, turned = losses(task, trainable.merge(random, task.frozen), task.init())
    assert one == turned
    one, turned = losses(other, other.frozen, other.init())
    assert one != turned
    task.export(task.init(), 0, tmp_path)
    written = load_model(tmp_path).params["unet"]["palette_embedding"]
    assert not np.any(written["kernel"]) and not np.any(written["bias"])


def test_batches_are_the_same_from_folders_the_cache_and_tfds(config, clips, tmp_path, monkeypatch):
    """If this fails, what is learned depends on how the clips are stored."""

    class Prepared(sources.FrameFolders):
        """Stand for TFDS, which has whole clips named by their number."""

        def __init__(self, root, split):
            assert split == "train+validation"
            super().__init__(sources.list_clips(clips))

        def name(self, clip):
            return f"train-{clip}"

    monkeypatch.setattr(sources, "TfdsDavis", Prepared)
    streams = [
        tasks.make_task(config(**changes)).batches(0)
        for changes in (
            {},
            {"data.cache": str(tmp_path / "cache")},
            {"data.source": "tfds"},
            {"data.source": "tfds", "data.cache": str(tmp_path / "other")},
        )
    ]
    for _ in range(3):
        first, *others = [next(stream) for stream in streams]
        assert first["color"].shape == (2, 3, 4, 6, 4)
        for other in others:
            assert first.keys() == other.keys()
            for name in first:
                np.testing.assert_array_equal(first[name], other[name], err_msg=name)


def test_the_windows_of_training_are_those_of_sampling(config, model, tmp_path):
    """If this fails, a model fine-tuned on 14 frames samples the 25 that it came from."""
    made = config(**{"data.window": 2})
    task = tasks.make_task(made)
    task.export(task.init(), 0, tmp_path)
    before, after = (load_model(folder).config for folder in (model, tmp_path))
    assert before.sampling.window == 4 and after.sampling.window == 2
    assert after.sampling.overlap == 1 and after.unet == before.unet


def test_conditions_of_training_are_those_of_sampling(config, tmp_path, monkeypatch):
    """If this fails, a fine-tuned model is sampled under conditions that it never saw."""
    rates = {"rates.reference_color": 1.0, "rates.reference_none": 0.0}
    changes = {"fps": 24, "motion_bucket": 30, "noise_augmentation": 0.05}
    made = config(**changes, **rates)
    task = tasks.make_task(made)
    task.export(task.init(), 0, tmp_path)
    sampling = load_model(tmp_path).config.sampling
    assert (sampling.fps, sampling.motion_bucket) == (24, 30)
    assert (sampling.noise_augmentation, sampling.reference) == (0.05, "color")
    # The step computes with them, as its trace shows.
    seen, make = [], networks.time_ids
    monkeypatch.setattr(networks, "time_ids", lambda *ids: seen.append(ids) or make(*ids))
    batch = next(task.batches(0))
    jax.eval_shape(task.loss, task.init(), task.frozen, batch, jax.random.key(0))
    assert seen == [(24, 30, 0.05)]


def test_validation_sees_the_favored_reference(config):
    """If this fails, a model trained on references in color is judged by gray ones."""
    values = []
    for share in (0.0, 1.0):
        rates = {"rates.reference_color": share, "rates.reference_none": 0.0}
        task = tasks.make_task(config(**rates))
        values.append(task.validate(task.init(), task.frozen)["validation_1"])
    assert values[0] != values[1]


def test_noise_on_gray_frames_is_that_of_the_sample(config):
    """If this fails, the network gets a wrong noise level, or resumed runs differ."""
    changes = {"noise_augmentation": 0.2, "data.hold_out_every": 0}
    plain, noisy, later = (
        tasks.make_task(config(**given)).batches(first)
        for given, first in (({"data.hold_out_every": 0}, 0), (changes, 0), (changes, 2))
    )
    plain = [next(plain) for _ in range(2)]
    noisy = [next(noisy) for _ in range(2)]
    for one, other in zip(plain, noisy, strict=True):
        assert one.keys() == other.keys()
        for name in ("color", "palette", "context_gray"):
            np.testing.assert_array_equal(one[name], other[name])
        assert np.abs(one["gray"] - other["gray"]).max() > 1e-2
    np.testing.assert_array_equal(next(later)["gray"], noisy[1]["gray"])


def test_a_run_leaves_the_mixture_of_its_own_clips(config, clips, tmp_path, capsys):
    """If this fails, a trained model is steered by the colors of the demo's clips."""
    made = config(**{"data.hold_out_every": 4})
    task = tasks.make_task(made)
    task.export(task.init(), 0, tmp_path / "model")
    expected = mixture.fit(sources.hold_out(sources.open_clips("folders", clips), 4)[0], made.seed)
    written = gmm.load(tmp_path / "model" / "mixture.json")
    facts = {name: expected.fitted_on[name] for name in ("pixels", "colorfulness")}
    assert written.fitted_on == expected.fitted_on == {"clips": 3, "frames": 18} | facts
    np.testing.assert_allclose(written.means, expected.means, atol=1e-5)
    # Gray clips have no mixture; the model is exported all the same.
    gray = films.write_pictures(
        tmp_path / "gray" / "clip", [np.full((24, 36, 3), 90, np.uint8)] * 6
    )
    task = tasks.make_task(config(**{"data.root": str(gray.parent), "data.hold_out_every": 0}))
    task.export(task.init(), 0, tmp_path / "other")
    load_model(tmp_path / "other")
    assert not (tmp_path / "other" / "mixture.json").exists()
    assert "no mixture for --palette gmm: 0 of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accumulate": 3}, "accumulate=3 does not divide batch_size=2"),
        ({"optimizer.kind": "adam"}, "optimizer.kind='adam'; use 'adamw' or 'muon'"),
        ({"optimizer.decay": "none"}, "optimizer.decay='none'"),
        ({"data.window": 6}, "data.window=6 frames do not fit a crop of data.frames=5"),
        ({"data.frames": 9, "data.window": 8}, "clip clip.: 6 frames where a window has 8"),
        ({"data.size": (16, 22)}, "data.size=16x22 pixels: the model 'tiny' needs multiples of 4"),
        ({"data.source": "folder"}, "data.source='folder'; use 'folders'"),
        ({"data.hold_out_every": 1}, "hold_out_every=1 leaves no clip"),
        ({"compute_dtype": "fp16"}, "compute_dtype='fp16'; use float32, or bfloat16"),
        ({"compute_dtype": "float16"}, "compute_dtype='float16'; use .* gradients would overflow"),
        ({"remat": "all"}, "remat='all'; use one of none, layers, attention"),
        ({"remat_budget_mib": -1}, "remat_budget_mib=-1; give MiB"),
        ({"weighting": "w"}, "weighting='w'; use one of v, eps"),
        ({"rates.gray_dropout": 1.5}, "rates.gray_dropout=1.5; give a probability"),
        ({"rates.reference_none": 0.6}, "sum to more than 1"),
        ({"rates.palette_dropout": 1.0, "data.hue_shift_rate": 0.5}, "only a palette"),
        ({"rates.joint_dropout": -0.1}, "rates.joint_dropout=-0.1; give a probability"),
        ({"fps": -1}, "fps=-1; give a whole number from 0"),
        ({"motion_bucket": 300}, "motion_bucket=300; give a whole number from 0 to 255"),
        ({"noise_augmentation": 1.5}, "noise_augmentation=1.5; give a number from 0 to 1"),
        (
            {"noise_augmentation": 0.1, "data.cache": "cache"},
            "noise_augmentation=0.1 with data.cache='cache': cached latents are of frames without",
        ),
        ({"data.mirrored": True}, "data.mirrored=True with data.crops=1"),
        ({"optimizer.palette_learning_rate": -1.0}, "optimizer.palette_learning_rate=-1.0; give 0"),
        (
            {"optimizer.palette_learning_rate": 0.1, "trained": ("temporal",)},
            "palette_learning_rate=0.1: the palette layer is not trained",
        ),
        ({"lora.rank": -1}, "lora.rank=-1; give 0"),
        ({"lora.rank": 2}, "kernels are trained whole.*leave them out of trained"),
        ({"trained": ("unets",)}, "'unets' matches no weight"),
        ({"init_from": "", "model": "demo"}, "init_from='' and vae='': give a model folder"),
    ],
)
def test_bad_values_are_refused_in_a_line(config, changes, said):
    """If this fails, a wrong value costs a traceback, or hours until it shows."""
    with pytest.raises(ValueError, match=said) as error:
        next(tasks.make_task(config(**changes)).batches(0))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 6}, "batch_size=6 in accumulate=1 parts leaves 6 windows"),
        ({"accumulate": 2, "batch_size": 4}, "batch_size=4 in accumulate=2 parts leaves 2 windows"),
        ({"validation_clips": 6}, "validation_clips=6; give a multiple of 4"),
        ({"accumulate": 2, "mesh.data": 2, "mesh.fsdp": 2}, None),
        ({"validation_clips": 6, "data.hold_out_every": 0}, None),
        ({"batch_size": 6, "mesh.fsdp": 2, "mesh.frames": 2, "validation_clips": 2}, None),
    ],
)
def test_batches_that_do_not_divide_over_the_mesh(config, changes, said):
    """If this fails, every device computes the windows of all, slowly or out of memory."""
    made = config(**{"batch_size": 8, "validation_clips": 4} | changes)
    mesh = AbstractMesh(tuple(max(made.mesh.sizes()[axis], 0) or 4 for axis in AXES), AXES)
    if said is None:
        checks.check_mesh(made, mesh)
        return
    with pytest.raises(ValueError, match=said) as error:
        checks.check_mesh(made, mesh)
    assert "\n" not in str(error.value)


def test_folders_that_are_no_model_or_hold_no_clips_are_named(config, tmp_path):
    """If this fails, a mistyped path gives a traceback from deep inside."""
    for key, said in (("init_from", "not a checkpoint folder"), ("data.root", "no clips found")):
        for folder in (tmp_path, tmp_path / "missing"):
            with pytest.raises(ValueError, match=f"{folder}: {said}"):
                tasks.make_task(config(**{key: str(folder)}))


def test_too_few_clips_to_hold_one_out_are_named(config):
    """If this fails, a run has neither validation nor previews, and its user waits for them."""
    with pytest.warns(UserWarning, match="holds out none of 4 clips"):
        train, held = batches.open_split(config(**{"data.hold_out_every": 30}).data)
    assert len(train) == 4 and not len(held)


def test_a_new_model_is_trained_whole(config, model, monkeypatch):
    """If this fails, random weights are frozen without an error."""
    from palette_vc_jax.models import config as model_config

    monkeypatch.setitem(model_config.PRESETS, "tiny", lambda: tiny.CONFIG)
    new = {"init_from": "", "model": "tiny", "vae": str(model)}
    with pytest.raises(ValueError, match="a new UNet is trained whole"):
        tasks.make_task(config(**new, trained=("temporal", "palette")))
    task = tasks.make_task(config(**new, trained=("unet", "image_encoder")))
    assert task.frozen == {}


@pytest.mark.parametrize("name", ["davis", "davis_nopalette", "demo", "demo_vae"])
def test_config_arguments(name):
    """If this fails, a mistyped :runlocal starts a run that takes days."""
    with pytest.raises(ValueError, match="'runlocl' is not known; use runlocal"):
        load(name, "runlocl")
    assert load(name, "runlocal").optimizer.steps < load(name).optimizer.steps


def test_every_unet_config_names_the_choices_of_the_paper():
    """If this fails, a choice that the paper leaves open has no key, or another default."""
    for name in ("davis", "davis_nopalette"):
        made = load(name)
        assert not made.data.mirrored and not made.data.reversed and made.data.crops == 1
    made = load("demo")  # as the bundled model was trained
    assert made.data.mirrored and made.data.reversed and made.data.crops == 20
    for made in map(load, ("davis", "davis_nopalette", "demo")):
        assert (made.fps, made.motion_bucket, made.noise_augmentation) == (6, 127, 0.0)
        assert made.optimizer.palette_learning_rate == 0.0
        assert 0.0 <= made.rates.joint_dropout < 1.0


@pytest.mark.parametrize(
    ("kind", "mib", "expected"),
    [
        ("TPU v5 lite", 0, 2**26),
        ("TPU v6 lite", 0, 2**31),
        ("NVIDIA A100-SXM4-40GB", 0, 2**31),
        ("TPU v5 lite", 512, 2**29),
        ("never seen", 0, 2**26),
    ],
)
def test_layers_are_split_only_where_memory_is_short(monkeypatch, kind, mib, expected):
    """If this fails, large devices compute layers once more to save memory that they have."""
    monkeypatch.setattr(placement, "device_kind", lambda: kind)
    assert unet_task.remat_budget(mib) == expected


def test_a_large_budget_costs_fewer_operations(monkeypatch):
    """If this fails, the config's budget does not reach the layers."""
    monkeypatch.setitem(PRESETS, "tiny", lambda: tiny.CONFIG)
    counted = {}
    for mib in (1, 1024):
        config = load("davis", "runlocal")
        config.init_from, config.model = "weights", "tiny"
        config.remat, config.remat_budget_mib = "layers", mib
        config.data.size, config.batch_size = (96, 96), 2
        run = tasks.abstract_run(read(config))
        step = jax.jit(jax.value_and_grad(run.loss, has_aux=True))
        counted[mib] = step_flops(step, run.params, run.frozen, run.batch, jax.random.key(0))
    assert counted[1024] < 0.97 * counted[1]


def test_nothing_holds_the_trained_weights_on_the_host(config, monkeypatch):
    """If this fails, a run of the full model holds 6 GB of host memory that it never reads."""
    seen = []

    def read_model(*args):
        model = load_model(*args)
        seen.extend(map(weakref.ref, jax.tree.leaves(model.params.get("unet", {}))))
        return model

    monkeypatch.setattr(weights, "load_model", read_model)
    task = tasks.make_task(config())
    first = len(seen)
    gc.collect()
    assert first and not [weight for weight in seen if weight() is not None]
    params = task.init()
    assert len(seen) == 2 * first
    leaves = jax.tree.leaves(params)
    assert all(isinstance(leaf, np.ndarray) for leaf in leaves)  # no device has held them
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, task.shapes)
    del params, leaves
    gc.collect()
    assert not [weight for weight in seen if weight() is not None]


def test_a_state_begins_without_a_second_copy_of_the_parameters(config):
    """If this fails, a card needs more memory to begin a run than to go on with it."""
    made = config()
    task = tasks.make_task(made)
    mesh = make_mesh(made.mesh.sizes(), jax.devices()[:1])
    placed = place_step(task.loss, task.shapes, task.frozen, made, mesh)
    params = placement.put(task.init(), placed.state["params"])
    state = placed.begin(params)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params))
    start = task.init()
    for name in ("params", "ema"):
        jax.tree.map(np.testing.assert_array_equal, state[name], start)
