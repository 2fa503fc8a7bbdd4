"""Configs: every key is known, bad values are refused before anything is read, files are found."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from palette_vc_jax.commands.train import _override
from palette_vc_jax.models.memory import REMAT
from palette_vc_jax.parallel.mesh import AXES
from palette_vc_jax.training.checks import READ_BY, check_run
from palette_vc_jax.training.config import RunConfig, base, keys, load, read, read_stored, rules

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [
    pytest.param(load(name, argument), id=f"{name}:{argument}")
    for name in ("davis", "davis_nopalette", "demo", "demo_vae")
    for argument in ("", "runlocal")
]
NAN, HUGE = float("nan"), 10**30
NUMBERS = ("text", "", -1000, NAN, float("inf"), HUGE, (), (1,), b"1")
BAD = {
    int: (*NUMBERS, 0.5, None, True),
    float: NUMBERS,
    str: (3, NAN, (), None, b"text", "\0"),
    tuple: ((), 3, None, "text", (NAN,), (-1000,), ("",), (HUGE,), ((),), (0, 0, 0)),
    bool: ("text", 3, NAN, None, ()),
    type(None): (NAN, "text", -1000, ()),
}
# Keys that 0 switches off, or for which it is an ordinary value.
ZERO = {
    "seed", "lora.rank", "validate_every", "keep_every", "previews_every", "sigma_mean",
    "shared_noise_fraction", "ema_decay", "kl_weight", "data.workers", "data.hold_out_every",
    "data.hue_shift_rate", "data.gray_rate", "data.photo_rate", "data.region_rate",
    "optimizer.warmup_steps",
    "optimizer.b2", "optimizer.weight_decay", "rates.palette_dropout", "rates.gray_dropout",
    "rates.reference_color", "rates.reference_none", "rates.joint_dropout", "remat_budget_mib",
    "fps", "motion_bucket", "noise_augmentation", "optimizer.palette_learning_rate",
}  # fmt: skip


def _refused(config, key, value):
    """Return what is said of a value."""
    changed = config.copy_and_resolve_references()
    with changed.unlocked(), changed.ignore_type():
        *parents, name = key.split(".")
        place = changed
        for parent in parents:
            place = place[parent]
        with place.ignore_type():
            place[name] = value
    with pytest.raises(ValueError) as error:
        read(changed)
    return str(error.value)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_key_has_a_rule_that_allows_what_is_shipped(config):
    """If this fails, a key's bad values pass, or a config of the product is refused."""
    run = read(config)
    assert dict(keys(dataclasses.asdict(run))) == dict(keys(config))
    assert hash(run) == hash(read(dataclasses.asdict(run)))


@pytest.mark.parametrize("config", CONFIGS[::2])
def test_bad_values_of_every_key_are_refused_in_one_line(config):
    """If this fails, a wrong value is a traceback, a hang, or hours of the wrong training."""
    count = 0
    for key, value in keys(config):
        for bad in BAD[type(value)]:
            said = _refused(config, key, bad)
            assert said.startswith(f"{key}=") and "\n" not in said and len(said) < 200, said
            count += 1
        if isinstance(value, int | float) and key not in ZERO:
            assert _refused(config, key, 0).startswith(f"{key}=0")
    assert count > 200


def test_the_schema_is_the_base():
    """If this fails, a default differs from what the schema says, or a choice has no code."""
    assert read(base()) == RunConfig()
    assert tuple(RunConfig().mesh.sizes()) == AXES
    for name in REMAT:
        config = base()
        config.remat = name
        assert read(config).remat == name


def test_unknown_and_missing_keys_are_named():
    """If this fails, a run's config of another version is a traceback, or is read wrongly."""
    values = dataclasses.asdict(RunConfig())
    values["data"]["turned"] = values["data"].pop("hue_shift_rate")
    with pytest.raises(ValueError) as error:
        read(values)
    assert str(error.value).startswith(
        "config keys: unknown data.turned; missing data.hue_shift_rate; "
    )
    with pytest.raises(ValueError, match="missing accumulate, .* and [0-9]+ more; "):
        read({"task": "unet"})


def test_configs_are_found_by_name_and_by_path(tmp_path, monkeypatch):
    """If this fails, an installed package has no configs, or a user's own config is not read."""
    own = tmp_path / "mine.py"
    own.write_text(
        "from palette_vc_jax.training.config import load\n\n\n"
        "def get_config(argument=''):\n"
        "    config = load('davis', argument)\n"
        "    config.seed = 7\n"
        "    return config\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load("mine.py", "runlocal").seed == 7 and load(own).data.window == 14
    assert load(ROOT / "configs" / "davis.py").to_dict() == load("davis").to_dict()
    with pytest.raises(ValueError, match="'davi' is not known; use one of davis, davis_nopalette"):
        load("davi")
    own.write_text("def get_config(argument=''):\n    return nothing\n")
    with pytest.raises(ValueError, match=r"mine.py: not a config .*\(NameError: "):
        load(own)
    own.write_text(
        "from palette_vc_jax.training.config import base\n\n\n"
        "def get_config(argument=''):\n"
        "    config = base()\n"
        "    config.data.frame = 3\n"
    )
    with pytest.raises(ValueError, match='Key "frame" does not exist') as error:
        load(own)
    assert len(str(error.value)) < 300


def test_a_key_that_the_task_does_not_read_is_refused():
    """If this fails, a key that was set has no effect, without a message."""
    known = set(rules()) | {key.split(".")[0] for key in rules()}
    assert known >= {key for names in READ_BY.values() for key in names}
    for config in CONFIGS:
        check_run(read(config.values[0]))
    values = load("demo_vae")
    values.lora.rank = 4
    with pytest.raises(ValueError, match="lora.rank=4 has no effect, because task='vae'"):
        check_run(read(values))


def test_a_key_is_set_to_none_on_the_command_line():
    """If this fails, a config's hue shift cannot be switched off by a flag."""
    config = _override(load("demo"), ["--config.data.hue_shift_rate=None", "--config.seed=3"])
    assert config.data.hue_shift_rate is None and config.seed == 3


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("data.reference_every=0", "data.reference_every=0; give a whole number from 1"),
        ("data.size=(16,)", "data.size=(16,); give 2 values"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate=nan; give a number above 0"),
        ("data.turned=0.5", "the config has no key 'turned'"),
        ("trained[0]=palette", "0 is not a valid index"),
        ("data.window=None", "data.window=None; give a whole number from 1"),
        ("data.turned=None", "the config has no key 'data.turned'"),
        ("data.patch=(16,16)", "data.patch=(16, 16) has no effect, because task='unet' does not"),
    ],
)
def test_the_command_refuses_a_bad_value_at_once(tmp_path, flag, said):
    """If this fails, workers print their tracebacks, or the run hangs on a value."""
    command = [sys.executable, "train.py", "--config=configs/davis.py:runlocal", f"--config.{flag}"]
    ended = subprocess.run(
        [*command, f"--workdir={tmp_path / 'run'}"], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 2 and f"error: {said}" in ended.stderr, ended.stderr
    assert ended.stderr.strip().count("\n") == 0 and not (tmp_path / "run").exists()


def test_the_config_of_an_earlier_run_is_read():
    """If this fails, a run that an earlier version began cannot be sampled or exported."""
    stored = dataclasses.asdict(read(load("davis")))
    stored["noise_share"] = 0.25
    del stored["shared_noise_fraction"]
    stored["rates"]["grey_dropout"] = stored["rates"].pop("gray_dropout")
    stored["data"]["turned"] = stored["data"].pop("hue_shift_rate")
    for key in ("kl_weight", "color_floor"):  # of the VAE alone: runs of a UNet had none
        del stored[key]
    expected = dataclasses.replace(read(load("davis")), shared_noise_fraction=0.25)
    assert read_stored(stored) == expected
    with pytest.raises(ValueError, match="unknown seeds"):
        read_stored(stored | {"seeds": 1})
