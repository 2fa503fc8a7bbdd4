"""The UNet's task on a tiny model: ways to train, the ablation, data sources, bad configs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import davis, davis_nopalette, demo, demo_vae
from palette_vc_jax.data import sources
from palette_vc_jax.models import functional
from palette_vc_jax.models.store import load_model
from palette_vc_jax.training import loop, tasks, trained
from tests import films, tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("model"))


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
    """Give `config(file, **changes)`: its runlocal variant for the tiny model and these clips."""

    def make(file=davis, **changes):
        made = file.get_config("runlocal")
        given = {
            "init_from": str(model), "batch_size": 2, "save_every": 3, "validate_every": 3,
            "log_every": 1, "optimizer.steps": 3, "optimizer.warmup_steps": 1,
            "optimizer.learning_rate": 1e-2, "data.root": str(clips), "data.size": (16, 24),
            "data.short_sides": (16, 24), "data.frames": 5, "data.window": 3, "data.crops": 1,
            "data.hold_out_every": 4, "validation_clips": 2, "validation_sigmas": (1.0,),
        }  # fmt: skip
        made.update_from_flattened_dict(given | changes)
        return made

    return make


def _trained(made, workdir):
    """Run to the end; give flat weights before and after."""
    loop.run(tasks.make_task(made), made, workdir)
    before, after = (load_model(f).params for f in (made.init_from, workdir / "model"))
    return functional.flatten(before), functional.flatten(after)


def _moved(before, after):
    # Exported in float16: what stayed differs by its rounding alone.
    return {k for k in before if np.any(before[k].astype(np.float16) != after[k])}


@pytest.mark.parametrize("patterns", [("palette", "temporal"), ("image_encoder",)])
def test_only_what_is_named_moves(config, tmp_path, patterns):
    """If this fails, frozen weights are trained, or trained ones lost in the exported model."""
    made = config(trained=patterns)
    task = tasks.make_task(made)
    names = set(functional.flatten(task.init()))
    frozen = set(functional.flatten(task.frozen))
    before, after = _trained(made, tmp_path)
    assert names == trained.chosen(before, patterns)
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
        task._replace(export=lambda params, folder: exported.update(params)), made, tmp_path / "run"
    )
    end = functional.flatten(exported)
    assert all(np.any(end[name] != start[name]) for name in start)
    task.export(exported, tmp_path / "model")
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
    made = config(davis_nopalette)
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

    # Even were the layer not zero.
    random = {"unet": {"palette_embedding": jax.tree.map(jnp.ones_like, layer)}}
    one, turned = losses(task, trained.merge(random, task.frozen), task.init())
    assert one == turned
    one, turned = losses(other, other.frozen, other.init())
    assert one != turned
    task.export(task.init(), tmp_path)
    written = load_model(tmp_path).params["unet"]["palette_embedding"]
    assert not np.any(written["kernel"]) and not np.any(written["bias"])


def test_batches_are_the_same_from_folders_the_cache_and_tfds(config, clips, tmp_path, monkeypatch):
    """If this fails, what is learned depends on how the clips are stored."""

    class Prepared(sources.FrameFolders):
        """What TFDS gives: whole clips, named by their number."""

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
    task.export(task.init(), tmp_path)
    before, after = (load_model(folder).config for folder in (model, tmp_path))
    assert before.sampling.num_frames == 4 and after.sampling.num_frames == 2
    assert after.sampling.overlap == 1 and after.unet == before.unet


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accumulate": 3}, "accumulate=3 does not divide batch_size=2"),
        ({"optimizer.kind": "adam"}, "optimizer.kind='adam'; use 'adamw' or 'muon'"),
        ({"optimizer.decay": "none"}, "optimizer.decay='none'"),
        ({"data.window": 6}, "data.window=6 frames do not fit a crop of data.frames=5"),
        ({"data.frames": 9, "data.window": 8}, "clip clip.: 6 frames where a window has 8"),
        ({"data.size": (16, 20)}, "data.size=16x20 pixels: the model 'tiny' needs multiples of 8"),
        ({"data.source": "folder"}, "data.source='folder'; use 'folders'"),
        ({"data.hold_out_every": 1}, "hold_out_every=1 leaves no clip"),
        ({"compute_dtype": "fp16"}, "compute_dtype='fp16'; use one of float32"),
        ({"weighting": "w"}, "weighting='w'; use one of v, eps"),
        ({"rates.grey_dropout": 1.5}, "rates.grey_dropout=1.5; give a probability"),
        ({"rates.reference_none": 0.6}, "sum to more than 1"),
        ({"rates.palette_dropout": 1.0, "data.turned": 0.5}, "only be told by a palette"),
        ({"lora.rank": -1}, "lora.rank=-1; give 0"),
        ({"lora.rank": 2}, "kernels are trained whole.*leave them out of trained"),
        ({"trained": ("unets",)}, "'unets' matches no weight"),
        ({"init_from": "", "model": "demo"}, "give the folder that convert"),
    ],
)
def test_bad_values_are_refused_in_a_line(config, changes, said):
    """If this fails, a wrong value costs a traceback, or hours until it shows."""
    with pytest.raises(ValueError, match=said) as error:
        next(tasks.make_task(config(**changes)).batches(0))
    assert "\n" not in str(error.value)


def test_folders_that_are_no_model_or_hold_no_clips_are_named(config, tmp_path):
    """If this fails, a mistyped path gives a traceback from deep inside."""
    for key, said in (("init_from", "not a checkpoint folder"), ("data.root", "no clips found")):
        for folder in (tmp_path, tmp_path / "missing"):
            with pytest.raises(ValueError, match=f"{folder}: {said}"):
                tasks.make_task(config(**{key: str(folder)}))


def test_a_new_model_is_trained_whole(config, model, monkeypatch):
    """If this fails, random weights are frozen without a word."""
    from palette_vc_jax.models import config as model_config

    monkeypatch.setitem(model_config.PRESETS, "tiny", lambda: tiny.CONFIG)
    new = {"init_from": "", "model": "tiny", "vae": str(model)}
    with pytest.raises(ValueError, match="a new model is trained whole"):
        tasks.make_task(config(**new))
    task = tasks.make_task(config(**new, trained=("unet", "image_encoder")))
    assert task.frozen == {}


@pytest.mark.parametrize("file", [davis, davis_nopalette, demo, demo_vae])
def test_config_arguments(file):
    """If this fails, a mistyped :runlocal starts the run of days."""
    with pytest.raises(ValueError, match="'runlocl' is not known; use runlocal"):
        file.get_config("runlocl")
    assert file.get_config("runlocal").optimizer.steps < file.get_config().optimizer.steps
