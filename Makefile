# The two commands of the README are `make demo` and `make test`. Both build in release and with the
# features of the whole workspace, so that the second builds on the first.

PACKAGES = build-essential pkg-config \
	libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev \
	gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-base-apps \
	gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly \
	gstreamer1.0-libav gstreamer1.0-x \
	ges1.0-tools python3-venv python3-gi \
	gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gir1.2-ges-1.0
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

CARGO = cargo
comma := ,
# CUDA=1 builds and installs with CUDA in it, see `make cuda`.
WITH_CUDA = $(if $(CUDA),--features gst-plugin-tunableconv/cuda$(comma)tunableconv-train/cuda)
BUILD = $(if $(CUDA),NVCC="$(NVCC)") $(CARGO) build --release --workspace --lib --example demo $(WITH_CUDA)
LIBRARY = $(or $(CARGO_TARGET_DIR),target)/release/libgsttunableconv.so

# The models beside the one that the library carries.
MODELS = $(filter-out %/broadcast.safetensors,$(wildcard checkpoints/*.safetensors))

# Where `make install` puts things: by default where GStreamer looks for them.
DESTDIR =
gstreamer = $(or $(shell pkg-config --variable=$(1) gstreamer-1.0), \
	$(error no gstreamer-1.0: make setup))
prefix = $(call gstreamer,prefix)
libdir = $(call gstreamer,libdir --define-variable=prefix=$(prefix))
datadir = $(prefix)/share
INSTALLED = $(libdir)/gstreamer-1.0/libgsttunableconv.so \
	$(addprefix $(datadir)/gstreamer-1.0/presets/,$(notdir $(wildcard plugin/presets/*.prs))) \
	$(addprefix $(datadir)/metainfo/,$(notdir $(wildcard plugin/data/*.metainfo.xml))) \
	$(addprefix $(datadir)/tunableconv/models/,$(notdir $(MODELS)))
# Building is not root's work, and neither is writing to a folder of one's own.
AS_ROOT = $(if $(DESTDIR)$(shell test -w "$(prefix)" && echo writable),,$(SUDO))
# The plugin looks for installed models beside what else is installed.
MODEL_DIR = $(if $(filter /usr/share,$(datadir)),, \
	TUNABLECONV_MODEL_DIR="$(datadir)/tunableconv/models")

# NVIDIA's compiler: the one that is installed, or what `make cuda` fetches from PyPI.
CUDA_TOOLKIT = target/cuda
FETCHED_NVCC = $(CUDA_TOOLKIT)/nvidia/cu13/bin/nvcc
NVCC = $(or $(shell command -v nvcc),$(abspath $(FETCHED_NVCC)))
CUDA_WHEELS = nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
	nvidia-cuda-cccl==13.0.85 nvidia-cuda-runtime==13.0.96

# Where `make models` leaves its runs.
RUNS = runs

.PHONY: setup demo test cuda models install uninstall deb bench

# Installs the Debian packages that are missing; does nothing, offline, when none is.
setup:
	@missing=$$(for p in $(PACKAGES); do \
		dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		echo installing $$missing; \
		$(SUDO) apt-get update -q && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; \
	fi

# Degrades the clip in pipelines/media, filters it with a moving knob, and writes out/demo.*
demo: setup
	$(BUILD)
	target/release/examples/demo --input pipelines/media/flower_720p.264 --output-dir out

test: setup
	cargo test --release --workspace $(TEST_FLAGS)

# Builds the plugin with CUDA in it, and has frames filtered by a driver that stands in for NVIDIA's.
cuda: setup $(if $(findstring $(FETCHED_NVCC),$(NVCC)),$(FETCHED_NVCC))
	NVCC="$(NVCC)" $(CARGO) test --release -p tunableconv --features cuda --test cuda_driver
	NVCC="$(NVCC)" $(BUILD) --features gst-plugin-tunableconv/cuda,tunableconv-train/cuda

# 100 MB; neither a GPU nor a driver is needed to compile.
$(FETCHED_NVCC):
	python3 -m venv $(CUDA_TOOLKIT)/venv
	$(CUDA_TOOLKIT)/venv/bin/pip install --quiet --no-deps --target $(CUDA_TOOLKIT) $(CUDA_WHEELS)

# Trains the models that the project carries on DATA, folders of photographs, and with FEATURES and VGG, files with
# the weights of SqueezeNet 1.1 and VGG-19. Called again, it goes on.
models: setup
	@test -n "$(DATA)" || { echo "make models needs photographs: make models DATA='DIR DIR'" >&2; exit 1; }
	$(CARGO) build --release -p tunableconv-train
	FEATURES="$(FEATURES)" VGG="$(VGG)" train/models.sh "$(RUNS)" $(DATA)

# Builds as `make demo` does, and puts plugin, presets, metainfo and the other models where GStreamer and others
# look.
install:
	$(MODEL_DIR) $(BUILD)
	$(AS_ROOT) install -D -m 644 -t "$(DESTDIR)$(libdir)/gstreamer-1.0" "$(LIBRARY)"
	$(AS_ROOT) install -D -m 644 -t "$(DESTDIR)$(datadir)/gstreamer-1.0/presets" plugin/presets/*.prs
	$(AS_ROOT) install -D -m 644 -t "$(DESTDIR)$(datadir)/metainfo" plugin/data/*.metainfo.xml
	$(AS_ROOT) install -D -m 644 -t "$(DESTDIR)$(datadir)/tunableconv/models" $(MODELS)

uninstall:
	$(AS_ROOT) rm -f $(foreach file,$(INSTALLED),"$(DESTDIR)$(file)")

# The Debian package, target/debian/gstreamer1.0-tunableconv_*.deb.
deb:
	@$(CARGO) deb --version >/dev/null 2>&1 || { \
		echo "make deb needs cargo-deb: cargo install cargo-deb --locked" >&2; exit 1; }
	$(BUILD)
	$(CARGO) deb -p gst-plugin-tunableconv --no-build --multiarch=same

# Row kernels, whole frames, the element, the loader; then ONNX Runtime and OpenVINO on frames and
# PyTorch in training (fetched into target/).
bench: setup
	cargo bench -p tunableconv --bench kernels --bench rows --bench frame
	cargo bench -p gst-plugin-tunableconv --bench element
	cargo bench -p tunableconv-train --bench loader
	python3 benches/peers/run.py
	python3 benches/peers/train.py
