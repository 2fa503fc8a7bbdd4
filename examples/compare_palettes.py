"""Color the middle frame of a film under several palettes, side by side in one picture.

python examples/compare_palettes.py examples/bikes.mp4 palettes.png "navy,skyblue" "tomato,khaki"
"""

import sys

import av
import numpy as np
from PIL import Image

from palette_vc_jax import Palette, color_frames, load_model

source, output, *specs = sys.argv[1:]
with av.open(source) as film:
    frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
frame = frames[len(frames) // 2]
model = load_model()  # the bundled demo model, or load_model("models/svd_xt")

pictures = []
for palette in map(Palette.from_colors, specs):
    (picture,) = color_frames(frame[None], model, palette)
    swatch = np.rint(255.0 * palette.colors).astype(np.uint8)  # [5, 3]
    columns = swatch[np.arange(frame.shape[1]) * len(swatch) // frame.shape[1]]
    pictures += [picture, np.broadcast_to(columns, (24, *columns.shape))]  # colors below
Image.fromarray(np.concatenate(pictures)).save(output)
print(output)
