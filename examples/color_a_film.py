"""Color a film from Python: `python examples/color_a_film.py examples/bikes.mp4 colored.mkv`."""

import sys

from palette_vc_jax import Palette, color_film, default_settings, load_model, open_film, plan_film

source, output = sys.argv[1:]
model = load_model()  # the bundled demo model, or load_model("models/svd_xt")
settings = default_settings(model.config, overlap=2)  # what is not given is the model's own
palette = Palette.from_colors("#27323f, #7a5c48, khaki")

plan = plan_film(open_film(source), model, settings)
print(f"{plan.frames} frames in {len(plan.shots)} shots")
result = color_film(plan, output, model, palette, progress=lambda *counts: print(*counts))
print(result.film, *result.side_files.values(), sep="\n")
