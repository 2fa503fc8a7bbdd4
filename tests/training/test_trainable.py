"""Which weights are trained: patterns, LoRA, and what weight decay leaves alone."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from palette_vc_jax.models import functional
from palette_vc_jax.models.store import load_model
from palette_vc_jax.models.unet import UNet
from palette_vc_jax.parallel import placement
from palette_vc_jax.parallel.mesh import make_mesh
from palette_vc_jax.training import lora, optimizer, trainable
from palette_vc_jax.training.config import MeshConfig, OptimizerConfig, RunConfig
from palette_vc_jax.training.step import place_step
from tests import tiny

UNET = tiny.CONFIG.unet


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """Return random networks, nothing zero."""
    model = load_model(tiny.write_model(tmp_path_factory.mktemp("model")))
    return {name: model.params[name] for name in ("unet", "image_encoder")}


@pytest.fixture(scope="module")
def forward():
    """Return `forward(unet params)`: the network's output for fixed inputs."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    inputs = (normal(2, 3, 4, 6, 8), normal(2), normal(2, 1, 8), normal(2, 3), normal(2, 15))
    inputs += (jnp.ones(2),)
    return jax.jit(lambda unet: functional.apply(UNet, UNET, unet, *inputs))


def _equal(one, other):
    assert functional.flatten(one).keys() == functional.flatten(other).keys()
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_split_and_merge_lose_nothing(params):
    """If this fails, a weight is in neither part or in both, or comes back elsewhere."""
    for patterns in (["unet"], ["temporal", "palette"], [r"unet\.up_blocks\..*", "image_encoder"]):
        chosen, frozen = trainable.split(params, patterns)
        names, others = functional.flatten(chosen), functional.flatten(frozen)
        assert names and others and not set(names) & set(others)
        _equal(trainable.merge(chosen, frozen), functional.nest(functional.flatten(params)))
    doubled = jax.tree.map(lambda x: 2 * x, chosen)
    merged = trainable.merge(doubled, params)  # the trained one wins
    np.testing.assert_array_equal(
        merged["unet"]["up_blocks"]["0"]["resnets"]["0"]["time_mixer"]["mix_factor"],
        2 * params["unet"]["up_blocks"]["0"]["resnets"]["0"]["time_mixer"]["mix_factor"],
    )


def test_named_ways_choose_what_they_say(params):
    """If this fails, a way trains layers of another kind, or leaves some of its own out."""
    names = functional.flatten(params)
    found = {way: trainable.select(names, [way]) for way in trainable.PRESETS}
    assert found["unet"] | found["image_encoder"] == set(names)
    layer = "unet.palette_embedding"
    assert found["palette"] == {f"{layer}.kernel", f"{layer}.bias"}
    attends = {name for name in found["unet"] if ".attn1." in name or ".attn2." in name}
    assert found["attention"] == attends
    blocks = ("temporal_res_block", "temporal_transformer_blocks", "time_mixer", "time_pos_embed")
    joins = {name for name in found["unet"] if set(blocks) & set(name.split("."))}
    assert found["temporal"] == joins
    # Of every kind of block there are spatial layers that stay.
    for block in ("spatial_res_block", ".transformer_blocks", "conv_in", "time_embedding"):
        assert not any(f".{block.strip('.')}." in name for name in found["temporal"])


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        ((), "no weights are selected; give at least one of unet"),
        (("unet", "unett"), "'unett' matches no weight; use unet, temporal"),
        (("unet.down",), "'unet.down' matches no weight"),  # a whole name, not its start
        (("vae",), "'vae' matches no weight"),
        (("unet(",), r"'unet\(' is not a regular expression"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(params, patterns, said):
    """If this fails, a mistyped pattern trains nothing for days."""
    with pytest.raises(ValueError, match=said):
        trainable.split(params, patterns)


def test_lora_starts_from_the_network_and_reaches_all_kernels(params, forward):
    """If this fails, training does not start from the given weights, or a kernel is left out."""
    pairs = lora.init(params, 4, 0)
    merged = lora.merge(params, pairs, 16.0)
    np.testing.assert_array_equal(forward(merged["unet"]), forward(params["unet"]))
    flat = functional.flatten(pairs)
    stems = {name.rsplit(".", 1)[0] for name in flat}
    wanted = {
        name.removesuffix(".kernel")
        for name in functional.flatten(params)
        if re.search(r"\.(attn[12]|ff|ff_in)\.", name) and name.endswith(".kernel")
    }
    unread = {name for name in wanted if name.endswith(("attn2.to_q", "attn2.to_k"))}
    assert unread and stems == wanted - unread
    assert all(np.abs(flat[name]).max() == 0 for name in flat if name.endswith(".b"))
    assert lora.merge(params, {}, 16.0).keys() == params.keys()
    moved = jax.tree.map(lambda x: x + 0.1, pairs)
    assert np.abs(forward(lora.merge(params, moved, 16.0)["unet"]) - forward(params["unet"])).max()


def test_lora_adds_the_scaled_product(params):
    """If this fails, alpha or the rank scales the update otherwise, or axes are swapped."""
    pairs = jax.tree.map(lambda x: x + 0.1, lora.init(params, 2, 0))
    before, update = functional.flatten(params), functional.flatten(pairs)
    after = functional.flatten(lora.merge(params, pairs, 6.0))
    for name, kernel in before.items():
        stem = name.removesuffix("kernel")
        if f"{stem}a" in update:
            kernel = kernel + 3.0 * (np.asarray(update[f"{stem}a"]) @ update[f"{stem}b"])
        np.testing.assert_allclose(after[name], kernel, rtol=1e-6, atol=1e-6, err_msg=name)


def test_lora_beside_the_kernels_is_lora_in_the_kernels(params, forward):
    """If this fails, what is exported is not what was trained."""
    keys = iter(jax.random.split(jax.random.key(1), 1000))
    pairs = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), lora.init(params, 4, 0)
    )
    beside = forward(lora.attach(params, pairs, 16.0)["unet"])
    within = forward(lora.merge(params, pairs, 16.0)["unet"])
    plain = forward(params["unet"])
    assert np.linalg.norm(beside - within) <= 1e-5 * np.linalg.norm(within)
    assert np.linalg.norm(beside - plain) > 1e-2 * np.linalg.norm(plain)
    assert lora.attach(params, {}, 16.0).keys() == params.keys()


def test_lora_forms_no_gradient_of_a_kernel(params, forward):
    """If this fails, LoRA needs the memory and the time of training everything."""
    pairs = lora.init(params, 4, 0)

    def products(add):
        loss = lambda pairs: jnp.sum(forward(add(params, pairs, 16.0)["unet"]))  # noqa: E731
        return str(jax.make_jaxpr(jax.grad(loss))(pairs))

    gated = re.compile(r"f32\[16,128\] = dot_general")  # the shape of a feed-forward's kernel
    assert gated.search(products(lora.merge)) and not gated.search(products(lora.attach))


def test_frozen_weights_are_held_in_the_compute_type():
    """If this fails, LoRA holds twice the bytes of frozen weights on the devices."""
    config = RunConfig(mesh=MeshConfig(fsdp=1, split_from=1), compute_dtype="bfloat16")
    mesh = make_mesh(config.mesh.sizes(), jax.devices()[:1])
    frozen = {"kernel": np.full((3, 2), 1 / 3, np.float32)}
    placed = place_step(lambda *_: None, {"bias": np.zeros(2, np.float32)}, frozen, config, mesh)
    put = placement.put(frozen, placed.frozen)["kernel"]
    assert put.dtype == jnp.bfloat16 and placed.state["params"]["bias"].dtype == jnp.float32
    np.testing.assert_array_equal(put, frozen["kernel"].astype(jnp.bfloat16))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_weight_decay_leaves_alone_what_no_gradient_reaches(params, kind):
    """If this fails, kernels that the network never reads shrink to nothing over a run."""
    config = OptimizerConfig(
        kind, 1e-2, muon_learning_rate=1e-2, warmup_steps=0, steps=10, weight_decay=0.5
    )
    params = {"unet": {"mid_block": params["unet"]["mid_block"]}}
    update = optimizer.make_optimizer(config)
    updates, _ = jax.jit(update.update)(
        jax.tree.map(jnp.zeros_like, params), update.init(params), params
    )
    still = {name for name, leaf in functional.flatten(updates).items() if not np.any(leaf)}
    flat = functional.flatten(params)
    vectors = {name for name, leaf in flat.items() if leaf.ndim < 2}
    unread = {name for name in flat if name.endswith(("attn2.to_q.kernel", "attn2.to_k.kernel"))}
    assert len(unread) == 4  # two of each transformer
    assert still == vectors | unread


@pytest.mark.parametrize(("warmup", "rates"), [(0, [1.0, 1.0, 1.0]), (2, [0.5, 1.0, 1.0])])
def test_warm_up_of_any_length_ends_at_the_peak(warmup, rates):
    """If this fails, the first steps are lost, or without warm-up nothing is ever learned."""
    rate = optimizer.learning_rate(1.0, warmup, 10, "constant")
    np.testing.assert_allclose([rate(step) for step in range(3)], rates)
