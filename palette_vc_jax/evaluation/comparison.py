"""Compare folders of colored films with the truth."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from palette_vc_jax import __version__
from palette_vc_jax.evaluation.clips import Clip, find_clips
from palette_vc_jax.evaluation.films import find_films
from palette_vc_jax.evaluation.measure import measure_clips
from palette_vc_jax.evaluation.results import Results
from palette_vc_jax.evaluation.tables import TITLES
from palette_vc_jax.metrics.chunk import FeatureNetwork
from palette_vc_jax.metrics.meters import METRICS, WarpError
from palette_vc_jax.metrics.networks import weights
from palette_vc_jax.metrics.networks.load import load_feature_networks
from palette_vc_jax.metrics.pooled import POOLED
from palette_vc_jax.metrics.warp import check_flow


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, and how.

    Args:
        metrics: names of metrics, see `tables.TITLES`; None for all.
        weights: folder of the networks' weights.
        flow: folder of CLIP/forward/*.flo and CLIP/backward/*.flo between the truth's frames, for
            the warp error; computed if None.
        resize: resize outputs to the truth's size; if False, other sizes are an error.
    """

    metrics: Sequence[str] | None = None
    weights: Path = weights.FOLDER
    flow: Path | None = None
    resize: bool = False


DEFAULTS = EvaluationOptions()


def evaluate(
    reference: str | Path,
    outputs: Mapping[str, str | Path],
    options: EvaluationOptions = DEFAULTS,
) -> Results:
    """Measure colored films against the truth.

    Films are matched by name. Metrics whose weights are missing, or for which a film is too short
    or too small, are listed in `Results.gaps`; the others are computed.

    Args:
        reference: the truth: a folder of films or of frame folders, or one film.
        outputs: name of a row of the table -> colored films with the reference's names.
        options: what is measured, and how.

    Returns:
        Values by row, clip and metric; the rows are `truth`, `gray` and those of `outputs`.

    Raises:
        ValueError: if a metric is unknown, weights or flow are damaged, or films are missing or
            cannot be compared.
    """
    measuring = prepare(options)
    films = find_films(Path(reference))
    given = {row: find_films(Path(path)) for row, path in outputs.items()}
    clips = find_clips(films, given, options.resize)
    measuring.check(clips)
    return measuring.run(clips)


@dataclass(frozen=True)
class Measuring:
    """Checked options, and the networks that the metrics need."""

    options: EvaluationOptions
    metrics: tuple[str, ...]
    networks: Mapping[str, FeatureNetwork]
    gaps: Mapping[str, str]  # metric without weights -> how to get them

    def check(self, clips: Sequence[Clip]) -> None:
        """Check that the flow, if given, is used and fits the clips.

        Raises:
            ValueError: if it does not.
        """
        flow = self.options.flow
        if flow is None:
            return
        meters = [METRICS[name].meter() for name in self.metrics if name in METRICS]
        if not any(isinstance(meter, WarpError) for meter in meters):
            raise ValueError(f"--flow {flow}: no metric uses it; leave it out, or ask for one.")
        for clip in clips:
            check_flow(flow / clip.name, clip.frames)

    def run(self, clips: Sequence[Clip]) -> Results:
        """Measure clips, and describe the evaluation in `Results.about`."""
        start = time.time()
        names = [name for name in self.metrics if name not in self.gaps]
        results = measure_clips(clips, names, self.networks, self.options.flow)
        results.metrics = self.metrics
        results.gaps.update(self.gaps)
        results.about = self._describe(clips) | {"seconds": round(time.time() - start)}
        return results

    def _describe(self, clips: Sequence[Clip]) -> dict[str, Any]:
        options = self.options
        return {
            "reference": {clip.name: str(clip.truth.path) for clip in clips},
            "outputs": {
                row: {clip.name: str(clip.outputs[row].path) for clip in clips}
                for row in clips[0].outputs
            },
            "settings": {
                "resize": options.resize,
                "fvd_frames": POOLED["fvd"].frames,
                "flow": str(options.flow or f"DIS, medium, OpenCV {cv2.__version__}"),
            },
            "weights_sha256": {
                name: weights.sha256(name, options.weights) for name in self.networks
            },
            "version": __version__,
            "date": time.strftime("%Y-%m-%d"),
        }


def prepare(options: EvaluationOptions) -> Measuring:
    """Check the names of metrics and load their networks.

    Raises:
        ValueError: if a metric is unknown, or weights are damaged.
    """
    names = tuple(TITLES if options.metrics is None else options.metrics)
    unknown = sorted(set(names) - set(TITLES))
    if unknown or not names:
        raise ValueError(
            f"metric {(unknown or [''])[0]!r} is not known; use some of {', '.join(TITLES)}."
        )
    known = METRICS | POOLED
    network_of = {name: known[name].network for name in names if name in known}
    network_of = {name: network for name, network in network_of.items() if network}
    networks, missing = load_feature_networks(network_of.values(), options.weights)
    gaps = {
        name: f"no weights; get them with: {missing[network]}"
        for name, network in network_of.items()
        if network in missing
    }
    return Measuring(options, names, networks, gaps)
