"""The metric networks in PyTorch, for benchmarks and parity tests.

torchvision, lpips and pytorch-fid are looked for in `.venv/torchvision`, where `make test` puts
them: a torchvision of another build than torch cannot load its operators, and in the environment
itself would break whoever imports it. None of those operators is needed here.
"""

import importlib
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from palette_vc_jax.metrics.networks.convert import LEAVES

FOLDER = Path(__file__).resolve().parents[1] / ".venv" / "torchvision"
OPERATORS = [
    name
    for op in ("roi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d")
    for name in (op, f"_{op}_backward")
]
_declared: list[torch.library.Library] = []


def import_beside(name: str) -> ModuleType:
    """Import torchvision, lpips or pytorch_fid's module `name`.

    Raises ValueError where they are not installed.
    """
    if not FOLDER.is_dir():
        raise ValueError(f"{FOLDER}: not found; torchvision is installed there by make test.")
    if not _declared:
        sys.path.append(str(FOLDER))
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms", *OPERATORS):
            library.define(f"{operator}(Tensor x) -> Tensor")
        _declared.append(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


class Unit3D(nn.Module):
    """A 3-D convolution with TensorFlow's padding, batch norm without scale, ReLU."""

    def __init__(self, tensors: Mapping[str, np.ndarray], name: str, stride: int = 1):
        """Take the layer `name`."""
        super().__init__()
        kernel = tensors[f"{name}.kernel"].transpose(4, 3, 0, 1, 2)
        self.weight = torch.from_numpy(np.ascontiguousarray(kernel))
        bias, mean, var = (tensors[f"{name}.bn.{leaf}"] for leaf in ("bias", "mean", "var"))
        self.bias, self.mean, self.var = map(torch.from_numpy, (bias, mean, var))
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run on `[B, C, T, H, W]`."""
        x = F.conv3d(_same(x, self.weight.shape[2:], (self.stride,) * 3), self.weight, None,
                     self.stride)  # fmt: skip
        return F.relu(F.batch_norm(x, self.mean, self.var, None, self.bias, eps=1e-3))


class Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(self, tensors: Mapping[str, np.ndarray], name: str):
        """Take the block `name`."""
        super().__init__()
        branches = [
            ["Branch_0.Conv3d_0a_1x1"],
            ["Branch_1.Conv3d_0a_1x1", "Branch_1.Conv3d_0b_3x3"],
            ["Branch_2.Conv3d_0a_1x1", "Branch_2.Conv3d_0b_3x3"],
            ["Branch_3.Conv3d_0b_1x1"],
        ]
        self.branches = nn.ModuleList(
            nn.Sequential(*(Unit3D(tensors, f"{name}.{unit}") for unit in branch))
            for branch in branches
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run on `[B, C, T, H, W]`."""
        pooled = MaxPool(3, 1)(x)
        inputs = x, x, x, pooled
        return torch.cat([b(i) for b, i in zip(self.branches, inputs, strict=True)], dim=1)


class MaxPool(nn.Module):
    """A 3-D max pool with TensorFlow's padding."""

    def __init__(self, window: int | tuple[int, ...], stride: int | tuple[int, ...]):
        """Take a window and a stride, for all axes or each."""
        super().__init__()
        self.window, self.stride = ((n,) * 3 if isinstance(n, int) else n for n in (window, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run on `[B, C, T, H, W]` that a ReLU made, so that zeros are no maxima."""
        return F.max_pool3d(_same(x, self.window, self.stride), self.window, self.stride)


class I3D(nn.Module):
    """I3D as FVD uses it, with weights as they lie on file."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        """Build and fill."""
        super().__init__()
        mixed = [f"Mixed_{n}" for n in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")]
        blocks = {name: Mixed(tensors, name) for name in mixed}
        self.layers = nn.ModuleDict(
            {
                "Conv3d_1a_7x7": Unit3D(tensors, "Conv3d_1a_7x7", 2),
                "MaxPool3d_2a_3x3": MaxPool((1, 3, 3), (1, 2, 2)),
                "Conv3d_2b_1x1": Unit3D(tensors, "Conv3d_2b_1x1"),
                "Conv3d_2c_3x3": Unit3D(tensors, "Conv3d_2c_3x3"),
                "MaxPool3d_3a_3x3": MaxPool((1, 3, 3), (1, 2, 2)),
                **{name: blocks[name] for name in mixed[:2]},
                "MaxPool3d_4a_3x3": MaxPool(3, 2),
                **{name: blocks[name] for name in mixed[2:7]},
                "MaxPool3d_5a_2x2": MaxPool(2, 2),
                **{name: blocks[name] for name in mixed[7:]},
            }
        )
        head = tensors["Logits.Conv3d_0c_1x1.kernel"][0, 0, 0].T
        self.head = torch.from_numpy(np.ascontiguousarray(head))
        self.bias = torch.from_numpy(tensors["Logits.Conv3d_0c_1x1.bias"])

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the logits `[B, 400]` of frames `[B, T, 3, H, W]` in [0, 1]."""
        return self.classify(self.prepare(frames))

    def prepare(self, frames: torch.Tensor) -> torch.Tensor:
        """Resize and scale to `[B, 3, T, 224, 224]` in [-1, 1]."""
        small = F.interpolate(frames.flatten(0, 1), (224, 224), mode="bilinear")
        return (2.0 * small - 1.0).unflatten(0, frames.shape[:2]).transpose(1, 2)

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of what `prepare` gives."""
        for layer in self.layers.values():
            x = layer(x)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)  # [B, 1024, t, 1, 1]
        return F.linear(x.flatten(2).transpose(1, 2), self.head, self.bias).mean(dim=1)


def lpips(net: str, tensors: Mapping[str, np.ndarray]) -> nn.Module:
    """Build the `lpips` package's metric, with weights as they lie on file."""
    package = import_beside("lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = package.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False).eval()
    for name, theirs in model.state_dict().items():  # torch tensors that the model shares
        part, *rest = name.split(".")
        if part == "net":
            _, place, leaf = rest
            ours = tensors[f"features.{place}.{'kernel' if leaf == 'weight' else leaf}"]
            ours = ours.transpose(3, 2, 0, 1) if ours.ndim == 4 else ours
        elif f"{part}.kernel" in tensors:
            ours = tensors[f"{part}.kernel"].reshape(1, -1, 1, 1)
        else:
            continue  # constants, and the heads under a second name
        theirs.copy_(torch.from_numpy(np.ascontiguousarray(ours)))
    return model


def inception(tensors: Mapping[str, np.ndarray]) -> nn.Module:
    """Build pytorch-fid's network, with weights as they lie on file."""
    models = import_beside("torchvision.models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = models.inception_v3(aux_logits=False, init_weights=False, num_classes=1008)
    for name, theirs in model.state_dict().items():
        parts = name.split(".")
        layer, leaf = ".".join(parts[:-2]), LEAVES.get(".".join(parts[-2:]))
        if leaf:
            ours = tensors[f"{layer}.{leaf}"]
            ours = ours.transpose(3, 2, 0, 1) if ours.ndim == 4 else ours
            theirs.copy_(torch.from_numpy(np.ascontiguousarray(ours)))
    return fid_inception(model.state_dict())


def fid_inception(state: Mapping[str, torch.Tensor]) -> nn.Module:
    """Build pytorch-fid's network from a state dict in place of the one that it would download."""
    package = import_beside("pytorch_fid.inception")
    package.load_state_dict_from_url = lambda *_, **__: state
    return package.InceptionV3().eval()


def _same(x: torch.Tensor, window: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    pads = []
    for size, w, s in zip(x.shape[2:], window, stride, strict=True):
        total = max((-(-size // s) - 1) * s + w - size, 0)
        pads = [total // 2, total - total // 2, *pads]  # torch begins with the last axis
    return F.pad(x, pads)
