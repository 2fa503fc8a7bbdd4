"""Download a model from the Hugging Face hub."""

import re
from pathlib import Path

from palette_vc_jax.conversion.source import PALETTE_FILE

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
ALONE = "diffusion_pytorch_model*.safetensors"  # of a repository of one network
WANTED = [
    "model_index.json",
    "*/config.json",
    "*/*_config.json",
    "*/*.safetensors",
    "*/*.index*.json",
    PALETTE_FILE,
    "config.json",
    ALONE,
]


def fetch(name: str) -> Path:
    """Download the diffusers folder `name` (`owner/model`) and return its path in the cache.

    Half-precision files are downloaded only if there are no others. The token comes from the
    environment (`HF_TOKEN`) or `hf auth login`.

    Raises:
        ValueError: if the model is unknown or gated, or has another layout, or if the hub cannot
            be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=WANTED, ignore_patterns=["*fp16*"]))
        if not _has_weights(folder):
            folder = Path(snapshot_download(name, allow_patterns=WANTED))
    except GatedRepoError:
        raise ValueError(
            f"{name} is gated; accept its license at https://huggingface.co/{name}, and set "
            "HF_TOKEN to a token of your account."
        ) from None
    except RepositoryNotFoundError:
        raise ValueError(
            f"{name}: neither a local path nor a model on the hub; check the name, or set "
            "HF_TOKEN if the model is private."
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise ValueError(f"{name}: the hub cannot be reached ({error}); try again later.") from None
    if not _has_weights(folder):
        raise ValueError(
            f"{name}: has no networks in the layout of diffusers; if it has a single file, "
            "download that and give its path (and --base, if it is of one network)."
        )
    return folder


def _has_weights(folder: Path) -> bool:
    """Return whether a folder has the weights of diffusers' UNet, or is the folder of a network."""
    return any(any(folder.glob(pattern)) for pattern in ("unet/*.safetensors", ALONE))
