"""The hub, replaced by a function: which files are requested, and how refusals are reported."""

from fnmatch import fnmatch

import huggingface_hub
import pytest
from huggingface_hub import errors

from palette_vc_jax.commands import svd_to_flax
from palette_vc_jax.conversion import hub
from tests.commands import command

NAME = "stabilityai/stable-video-diffusion-img2vid-xt-1-1"
PUBLISHED = [
    "model_index.json",
    "svd_xt_1_1.safetensors",
    "README.md",
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    *(f"{network}/config.json" for network in ("unet", "vae", "image_encoder")),
]
VAE = "vae/diffusion_pytorch_model.safetensors"
HALF = [
    VAE,
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "image_encoder/model.fp16.safetensors",
]
FULL = ["unet/diffusion_pytorch_model.safetensors", "image_encoder/model.safetensors"]


@pytest.mark.parametrize(("weights", "taken"), [(HALF + FULL, [VAE, *FULL]), (HALF, HALF)])
def test_what_is_downloaded(monkeypatch, tmp_path, weights, taken):
    """If this fails, gigabytes are downloaded that are not read, or a model is not found."""

    def download(name, allow_patterns, ignore_patterns=()):
        assert name == NAME
        for path in PUBLISHED + weights:
            asked = any(fnmatch(path, pattern) for pattern in allow_patterns)
            if asked and not any(fnmatch(path, pattern) for pattern in ignore_patterns):
                (tmp_path / path).parent.mkdir(exist_ok=True)
                (tmp_path / path).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    folder = hub.fetch(NAME)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {path for path in found if path.endswith(".safetensors")} == set(taken)
    assert found > {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json"}


@pytest.mark.parametrize(
    ("published", "taken"),
    [
        (["config.json", "diffusion_pytorch_model.safetensors"], True),
        (["AnimateLCM-SVD-xt.safetensors", "README.md"], False),
    ],
)
def test_repositories_of_one_network(monkeypatch, tmp_path, published, taken):
    """If this fails, a UNet on the hub is reported as a folder that lacks files."""

    def download(name, allow_patterns, ignore_patterns=()):
        for path in published:
            if any(fnmatch(path, pattern) for pattern in allow_patterns):
                (tmp_path / path).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    if taken:
        assert hub.fetch("a/unet") == tmp_path and len([*tmp_path.iterdir()]) == 2
        return
    with pytest.raises(ValueError, match="a/unet: has no networks .* download that"):
        hub.fetch("a/unet")


def test_a_taken_name_is_told_before_the_download(monkeypatch, tmp_path, capsys):
    """If this fails, a user learns after 9 GB that the output's name is not free."""
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").touch()
    assert command(svd_to_flax.main, "--source", NAME, "--output", tmp_path / "model") == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (errors.GatedRepoError, "HF_TOKEN"),
        (errors.RepositoryNotFoundError, "neither a local path nor a model"),
        (errors.LocalEntryNotFoundError, "cannot be reached"),
        (errors.HfHubHTTPError, "cannot be reached"),
        (OSError, "cannot be reached"),
    ],
)
def test_refusals_are_one_line(monkeypatch, tmp_path, capsys, kind, words):
    """If this fails, a license that was not accepted ends in a traceback."""

    def download(name, **_):
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    output = tmp_path / "model"
    assert command(svd_to_flax.main, "--source", NAME, "--output", output) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {NAME}") and words in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())
