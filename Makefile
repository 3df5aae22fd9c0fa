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

.PHONY: setup demo test bench

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
	cargo build --release --workspace --lib --example demo
	target/release/examples/demo --input pipelines/media/flower_720p.264 --output-dir out

test: setup
	cargo test --release --workspace $(TEST_FLAGS)

# Row kernels, whole frames, the element, the loader; then ONNX Runtime and OpenVINO on frames and
# PyTorch in training (fetched into target/).
bench: setup
	cargo bench -p tunableconv --bench kernels --bench rows --bench frame
	cargo bench -p gst-plugin-tunableconv --bench element
	cargo bench -p tunableconv-train --bench loader
	python3 benches/peers/run.py
	python3 benches/peers/train.py
