"""Download a model from the Hugging Face hub."""

import re
from pathlib import Path

from palette_vc_jax.conversion.source import PALETTE_FILE

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
WANTED = [
    "model_index.json",
    "*/config.json",
    "*/*_config.json",
    "*/*.safetensors",
    "*/*.index*.json",
    PALETTE_FILE,
]


def fetch(name: str) -> Path:
    """Download the diffusers folder `name` (`owner/model`) into the hub's cache; give its place.

    Half precision is left out where there is full precision.

    The token comes from the environment (`HF_TOKEN`) or `hf auth login`. Raises ValueError in one
    line for a model that is unknown, gated or out of reach.
    """
    from huggingface_hub import snapshot_download  # the network is touched nowhere else
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=WANTED, ignore_patterns=["*fp16*"]))
        if any(folder.glob("unet/*.safetensors")):
            return folder
        return Path(snapshot_download(name, allow_patterns=WANTED))
    except GatedRepoError:
        raise ValueError(
            f"{name} is gated; accept its license at https://huggingface.co/{name}, and set "
            "HF_TOKEN to a token of that account."
        ) from None
    except RepositoryNotFoundError:
        raise ValueError(
            f"{name}: neither a path here nor a model on the hub; check the name, or set HF_TOKEN "
            "if it is private."
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise ValueError(f"{name}: the hub cannot be reached ({error}); try again later.") from None
