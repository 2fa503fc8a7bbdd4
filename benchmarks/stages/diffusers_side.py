"""diffusers beside this project, for the stages `unet` and `clip`: the same shapes and type.

Networks are built on the device from configs, with the random weights that PyTorch starts from.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import torch
import transformers
from PIL import Image

from benchmarks.stages import sizes
from benchmarks.stages.plan import Request
from palette_vc_jax.conversion.clip import write_image_encoder_config
from palette_vc_jax.conversion.unet import write_unet_config
from palette_vc_jax.conversion.vae import write_vae_config

GIB = 2**30
DEVICES = {"cpu": "cpu", "gpu": "cuda"}
DECODED = 10  # frames at a time, as `sample.py` does


def measure(request: Request) -> Iterator[dict[str, Any]]:
    """Measure the requested stage, on the device that JAX measured."""
    if request.platform not in DEVICES:
        raise ValueError(f"PyTorch is not measured on a {request.platform.upper()}")
    if request.platform == "gpu" and not torch.cuda.is_available():
        raise ValueError("PyTorch sees no GPU")
    with torch.inference_mode():
        yield from STAGES[request.stage](request, DEVICES[request.platform])


def _unet(request: Request, device: str) -> Iterator[dict[str, Any]]:
    """Time clips of each length, eager and then compiled."""
    size = sizes.choose(request.toy)
    network = _build(lambda: _unet_of(size), device)
    # The toy's graph is traced but not compiled to code, which takes minutes on a CPU.
    backend = "eager" if request.toy else "inductor"
    compiled = torch.compile(network, dynamic=False, backend=backend)
    for kind, call in {"eager": network, "torch.compile": compiled}.items():
        for frames in size.frames:
            row = {"name": f"diffusers {kind}, {frames} frames", "frames": frames}
            inputs = _clip_inputs(size, frames, device)
            _reset_peak(device)
            first = _seconds(lambda c=call, i=inputs: c(*i), device)
            times = [
                _seconds(lambda c=call, i=inputs: c(*i), device) for _ in range(size.repeats + 1)
            ]
            row |= {"ms": 1e3 * statistics.median(times[1:]), "peak_gib": _peak_gib(device)}
            yield row | ({"compile_s": first} if call is compiled else {})


def _clip(request: Request, device: str) -> Iterator[dict[str, Any]]:
    """Run the pipeline twice."""
    size = sizes.choose(request.toy)
    pipe = _build_pipeline(size, device)
    pipe.set_progress_bar_config(disable=True)
    seconds = {"encode_s": 0.0, "decode_s": 0.0}
    pipe.vae.encode = _timed(pipe.vae.encode, seconds, "encode_s", device)
    pipe.image_encoder.forward = _timed(pipe.image_encoder.forward, seconds, "encode_s", device)
    pipe.vae.decode = _timed(pipe.vae.decode, seconds, "decode_s", device)
    frames, steps = size.frames[0], size.model.sampling.steps
    row = {"name": f"diffusers, {frames} frames, {steps} steps"}
    _reset_peak(device)

    def run() -> None:
        pipe(
            Image.effect_noise((size.width, size.height), 64).convert("RGB"),
            height=size.height,
            width=size.width,
            num_frames=frames,
            num_inference_steps=steps,
            decode_chunk_size=DECODED,
            min_guidance_scale=1.0,
            max_guidance_scale=1.0,
            output_type="np",
        )

    for key in ("first_s", "total_s"):
        seconds.update(encode_s=0.0, decode_s=0.0)
        total = _seconds(run, device)
        yield row | {key: total}
    yield (
        row
        | seconds
        | {
            "denoise_s": total - sum(seconds.values()),
            "peak_gib": _peak_gib(device),
        }
    )


def _build(make: Callable[[], Any], device: str) -> Any:
    """Make a network in bfloat16 on the device, weights included."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            network = make().eval()
    finally:
        torch.set_default_dtype(torch.float32)
    return network.to(device)  # diffusers makes some buffers on the CPU whatever the context says


def _unet_of(size: sizes.Sizes) -> Any:
    values = write_unet_config(size.model.unet, size.frames[0])
    return diffusers.UNetSpatioTemporalConditionModel.from_config(values)


def _build_pipeline(size: sizes.Sizes, device: str) -> Any:
    vae = write_vae_config(size.model.vae)
    tower = transformers.CLIPVisionConfig(**write_image_encoder_config(size.model.image_encoder))
    sampling = size.model.sampling
    return diffusers.StableVideoDiffusionPipeline(
        _build(lambda: diffusers.AutoencoderKLTemporalDecoder.from_config(vae), device),
        _build(lambda: transformers.CLIPVisionModelWithProjection(tower), device),
        _build(lambda: _unet_of(size), device),
        diffusers.EulerDiscreteScheduler(
            prediction_type="v_prediction",
            timestep_type="continuous",
            use_karras_sigmas=True,
            sigma_min=sampling.sigma_min,
            sigma_max=sampling.sigma_max,
        ),
        transformers.CLIPImageProcessor(),
    )


def _clip_inputs(size: sizes.Sizes, frames: int, device: str) -> list[torch.Tensor]:
    """Draw latents, noise level, context and added ids."""
    config = size.model.unet
    shapes = (
        (1, frames, 2 * config.latent_channels, *size.latents),
        (1,),
        (1, 1, config.cross_attention_dim),
        (1, 3),
    )
    return [torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in shapes]


def _seconds(call: Callable[[], Any], device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _timed(call: Callable, seconds: dict[str, float], part: str, device: str) -> Callable:
    """Add the time of each call to `seconds[part]`."""

    def timed(*args: Any, **kwargs: Any) -> Any:
        results = []
        seconds[part] += _seconds(lambda: results.append(call(*args, **kwargs)), device)
        return results[0]

    return timed


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak_gib(device: str) -> float | None:
    return torch.cuda.max_memory_allocated() / GIB if device == "cuda" else None


STAGES = {"unet": _unet, "clip": _clip}
