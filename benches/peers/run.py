#!/usr/bin/env python3
"""Times this project's engine against ONNX Runtime and OpenVINO on the same net.

Every contestant runs once in every round, in one process tree, on the same threads and the same
frame, so that whatever slows the machine slows all of them. See README.md beside this file.
"""

import argparse
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = ROOT / "target"
VENV = TARGET / "peers-venv"
TRAIN = TARGET / "release" / "tunableconv-train"
ENGINE = TARGET / "release" / "examples" / "peer_engine"
REPORT = TARGET / "peers.md"

FORMS = {"tensor": "net only (tensors)", "planes": "planes to planes"}
# Between contestants, for the last one's threads to stop spinning.
PAUSE_S = 0.03


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=pathlib.Path,
                        default=ROOT / "checkpoints" / "broadcast.safetensors")
    parser.add_argument("--tuning", default="denoise=1,deblur=0")
    parser.add_argument("--size", default="1280x720", help="luma size, even (%(default)s)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=3, help="rounds before those that count")
    parser.add_argument("--frames", type=int, default=4,
                        help="timed frames per contestant and round, after one untimed")
    parser.add_argument("--input", type=pathlib.Path,
                        help="raw I420 frames of that size; otherwise they are synthetic")
    parser.add_argument("--no-build", action="store_true", help="take the binaries as they are")
    return parser.parse_args()


def enter_venv():
    """Goes on in the benchmark's own Python environment, made when it is missing."""
    python = VENV / "bin" / "python3"
    if pathlib.Path(sys.prefix).resolve() == VENV.resolve():
        return
    requirements = HERE / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    stamp = VENV / "requirements.sha256"
    if not stamp.exists() or stamp.read_text() != wanted:
        if not python.exists():
            venv.create(VENV, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
        stamp.write_text(wanted)
    os.execv(python, [python, __file__, *sys.argv[1:]])


def build():
    cargo = ["cargo", "build", "--release"]
    subprocess.run([*cargo, "-p", "tunableconv-train"], cwd=ROOT, check=True)
    subprocess.run([*cargo, "--example", "peer_engine"], cwd=ROOT, check=True)


def synthetic_frame(width, height, seed):
    """A smooth picture that moves with the seed, in I420; noise of σ = 25 (chroma 8)."""
    rng = np.random.default_rng(seed)

    def plane(width, height, middle, swing, period, noise):
        y, x = np.mgrid[0:height, 0:width] / height
        waves = np.sin(period * (x + 0.3 * y) + seed) + np.cos(0.7 * period * (y - 0.2 * x) - seed)
        values = middle + swing * waves / 2 + rng.normal(0, noise, (height, width))
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)

    half = (width // 2, height // 2)
    return [plane(width, height, 126, 90, 9, 25),
            plane(*half, 128, 50, 5, 8), plane(*half, 128, 50, 6, 8)]


def read_frames(path, width, height, most=8):
    sizes = [(height, width), (height // 2, width // 2), (height // 2, width // 2)]
    each = sum(h * w for h, w in sizes)
    data = np.fromfile(path, np.uint8)
    if data.size < each or data.size % each:
        sys.exit(f"{path}: {data.size} bytes are not whole I420 frames of {width}x{height}")
    frames = []
    for frame in data.reshape(-1, each)[:most]:
        bounds = np.cumsum([h * w for h, w in sizes])[:-1]
        frames.append([p.reshape(s) for p, s in zip(np.split(frame, bounds), sizes)])
    return frames


def inputs_of(form, planes):
    """The model's inputs by name, for planes of limited range."""
    y, u, v = planes
    if form == "planes":
        return {"luma": y[None, None].copy(), "u": u[None, None].copy(), "v": v[None, None].copy()}
    luma = [(y[i::2, j::2].astype(np.float32) - 16) / 219 for i in (0, 1) for j in (0, 1)]
    chroma = [(plane.astype(np.float32) - 16) / 224 for plane in (u, v)]
    return {"x": np.stack(luma + chroma)[None]}


def empty_outputs(form, width, height):
    half = (1, 1, height // 2, width // 2)
    if form == "tensor":
        return {"y": np.zeros((1, 6, height // 2, width // 2), np.float32)}
    return {"luma_out": np.zeros((1, 1, height, width), np.uint8),
            "u_out": np.zeros(half, np.uint8), "v_out": np.zeros(half, np.uint8)}


class Unavailable(Exception):
    """Why a contestant does not take part."""


class Timed:
    """A contestant in this process; `step` runs one frame between buffers made beforehand."""

    def time(self, count):
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self.step()
            times.append((time.perf_counter() - start) * 1000)
        return times

    def output(self):
        self.step()
        return flat(self.outputs.values())


class OnnxRuntime(Timed):
    def __init__(self, path, threads, inputs, outputs):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.binding, self.inputs, self.outputs = self.session.io_binding(), inputs, outputs
        for name, array in inputs.items():
            self.binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            self.binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def step(self):
        self.session.run_with_iobinding(self.binding)


class OpenVino(Timed):
    def __init__(self, model, threads, inputs, outputs):
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
                  "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        self.compiled = ov.Core().compile_model(model, "CPU", config)
        self.request, self.inputs, self.outputs = self.compiled.create_infer_request(), inputs, outputs
        for name, array in inputs.items():
            self.request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        for name, array in outputs.items():
            self.request.set_tensor(name, ov.Tensor(array, shared_memory=True))

    def step(self):
        self.request.start_async()
        self.request.wait()


class Engine:
    """This project's engine: one process, spoken to in lines."""

    def __init__(self, args):
        command = [ENGINE, args.checkpoint, "--tuning", args.tuning, "--size", args.size,
                   "--threads", str(args.threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)
        self.expect("ready")

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            # The engine has ended; `answer` says so.
            pass
        return self.answer()

    def answer(self):
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise Unavailable(f"peer_engine ended ({self.process.wait()})")
        if answer.startswith("error"):
            raise Unavailable(answer.removeprefix("error").strip())
        return answer

    def expect(self, word, line=None):
        answer = self.answer() if line is None else self.ask(line)
        if answer != word:
            raise Unavailable(f"peer_engine answered `{answer}`, expected `{word}`")


class Ours:
    def __init__(self, engine, form, precision, folder):
        self.engine, self.form, self.precision = engine, form, precision
        self.file = folder / f"ours-{form}-{precision}.raw"
        self.time(1)

    def time(self, count):
        answer = self.engine.ask(f"time {self.form} {self.precision} {count}")
        times = [float(word) for word in answer.split()]
        if len(times) != count:
            raise Unavailable(f"peer_engine gave {len(times)} times, expected {count}")
        return times

    def output(self):
        self.engine.expect("ok", f"save {self.form} {self.precision} {self.file}")
        return np.fromfile(self.file, np.uint8 if self.form == "planes" else np.float32)


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def export(args, form, path):
    width, height = args.luma
    size = args.size if form == "planes" else f"{width // 2}x{height // 2}"
    subprocess.run([TRAIN, "export-onnx", args.checkpoint, "--tuning", args.tuning,
                    f"--{form}", size, "--out", path], check=True)
    return path


def quantise_ort(path, calibration):
    """ONNX Runtime's own static quantiser: u8 activations, i8 weights per channel."""
    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.frames = iter(calibration)

        def get_next(self):
            return next(self.frames, None)

    out = path.with_suffix(".qdq.onnx")
    quantization.quantize_static(
        path, out, Reader(), quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        per_channel=True, op_types_to_quantize=["Conv", "LeakyRelu"])
    return out


def quantise_openvino(path, calibration, threads, inputs, outputs):
    """NNCF's post-training quantisation with each preset; returns the faster one and its name."""
    # The sum of frame and residual stays exact, as it does in the other contestants.
    exact = nncf.IgnoredScope(names=["y", "sum", "residual_codes", "above_black", "x"],
                              validate=False)
    found = []
    for preset in (nncf.QuantizationPreset.PERFORMANCE, nncf.QuantizationPreset.MIXED):
        model = nncf.quantize(ov.Core().read_model(path), nncf.Dataset(calibration), preset=preset,
                              subset_size=len(calibration), ignored_scope=exact)
        runner = OpenVino(model, threads, inputs, outputs)
        runner.time(3)
        found.append((statistics.median(runner.time(9)), preset.name.lower(), runner))
    _, name, runner = min(found, key=lambda entry: entry[0])
    return runner, name


def contestants(args, form, engine, engine_missing, frames, folder):
    """Name → contestant, or the reason why there is none; and notes."""
    (width, height), threads, notes = args.luma, args.threads, []
    model = export(args, form, folder / f"{form}.onnx")
    inputs = inputs_of(form, frames[0])
    calibration = [inputs_of(form, frame) for frame in frames[1:] or frames]
    buffers = lambda: (inputs, empty_outputs(form, width, height))

    def openvino_int8():
        try:
            runner, preset = quantise_openvino(model, calibration, threads, *buffers())
            notes.append(f"{FORMS[form]}: OpenVINO int8 with NNCF preset {preset}, the faster one")
            return runner
        except (RuntimeError, ValueError, AttributeError) as error:
            notes.append(f"{FORMS[form]}: OpenVINO int8 runs ONNX Runtime's QDQ model, "
                         f"as NNCF failed: {str(error).splitlines()[0]}")
            return OpenVino(str(model.with_suffix(".qdq.onnx")), threads, *buffers())

    def ours(precision):
        if engine is None:
            raise Unavailable(engine_missing)
        return Ours(engine, form, precision, folder)

    makers = {
        "ours f32": lambda: ours("f32"),
        "ours int8": lambda: ours("int8"),
        "OpenVINO f32": lambda: OpenVino(str(model), threads, *buffers()),
        "OpenVINO int8": openvino_int8,
        "ONNX Runtime f32": lambda: OnnxRuntime(str(model), threads, *buffers()),
        "ONNX Runtime int8":
            lambda: OnnxRuntime(str(quantise_ort(model, calibration)), threads, *buffers()),
    }
    if form == "planes":
        makers["ours candle"] = lambda: ours("candle")
    made = {}
    # ONNX Runtime's quantised model is what OpenVINO falls back on.
    for name in sorted(makers, key=lambda name: name == "OpenVINO int8"):
        try:
            made[name] = makers[name]()
        except Unavailable as reason:
            made[name] = reason
    macs = sum(int(np.prod(tensor.dims)) for tensor in onnx.load(model).graph.initializer
               if tensor.name.endswith(".weight")) * (height // 2) * (width // 2)
    return {name: made[name] for name in makers}, 2 * macs, notes


def measure(args, groups):
    """Milliseconds of each contestant, one number a round: the mean of its frames."""
    times = {}
    for turn in range(args.warm_up + args.rounds):
        for form, runners in groups.items():
            for name, runner in runners.items():
                if isinstance(runner, Unavailable):
                    continue
                time.sleep(PAUSE_S)
                # The first frame brings the contestant's data back into the caches.
                sample = statistics.mean(runner.time(args.frames + 1)[1:])
                if turn >= args.warm_up:
                    times.setdefault((form, name), []).append(sample)
        print(f"\rround {turn + 1} of {args.warm_up + args.rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return times


def compare(form, runners):
    """Lines on how far outputs are from each other, and what is wrong with them."""
    reference = next(n for n, r in runners.items() if "f32" in n and not isinstance(r, Unavailable))
    expected = runners[reference].output().astype(np.float64)
    planes = form == "planes"
    lines, wrong = [], []
    for name, runner in runners.items():
        if isinstance(runner, Unavailable) or name == reference:
            continue
        output = runner.output().astype(np.float64)
        if output.size != expected.size:
            wrong.append(f"{FORMS[form]}: {name} gave {output.size} samples, not {expected.size}")
            continue
        difference = np.abs(output - expected)
        if "int8" in name:
            error = np.mean(difference ** 2)
            psnr = 10 * np.log10((255.0 if planes else 1.0) ** 2 / error) if error else np.inf
            lines.append(f"{name} against {reference}: {psnr:.1f} dB")
            continue
        largest = difference.max()
        lines.append(f"{name} against {reference}: differs by {largest:.2g} at most, "
                     f"{np.mean(difference > 0):.2%} of samples differ")
        # Written so that NaN is refused too.
        if not largest <= (1 if planes else 1e-3):
            wrong.append(f"{FORMS[form]}: {name} differs from {reference} by {largest:.3g}")
    return lines, wrong


def table(form, runners, times, flop):
    medians = {name: statistics.median(times[form, name]) for name in runners
               if (form, name) in times}
    base = medians.get("ours f32")
    lines = [f"### {FORMS[form]}", "",
             "| contestant | ms/frame | range | frames/s | of ours f32 | GFLOP/s |",
             "|---|---:|---:|---:|---:|---:|"]
    for name, runner in runners.items():
        if name not in medians:
            lines.append(f"| {name} | n/a: {runner} | | | | |")
            continue
        ms, all_times = medians[name], times[form, name]
        ratio = f"{ms / base:.2f}" if base else "n/a"
        lines.append(f"| {name} | {ms:.2f} | {min(all_times):.2f}–{max(all_times):.2f} "
                     f"| {1000 / ms:.1f} | {ratio} | {flop / ms / 1e6:.0f} |")
    lines.append("")
    for top, bottom in [("ours f32", "OpenVINO f32"), ("ours int8", "OpenVINO int8"),
                        ("ours int8", "ONNX Runtime int8"), ("ours int8", "ONNX Runtime f32")]:
        known = top in medians and bottom in medians
        ratio = f"{medians[bottom] / medians[top]:.2f}" if known else "n/a"
        lines.append(f"- {top} is {ratio} × as fast as {bottom}")
    return lines


def main():
    args = arguments()
    try:
        args.luma = tuple(int(side) for side in args.size.split("x"))
        width, height = args.luma
    except ValueError:
        sys.exit(f"--size {args.size}: expected WIDTHxHEIGHT")
    if width % 2 or height % 2 or min(args.luma) < 2:
        sys.exit(f"--size {args.size}: expected even sides")
    if min(args.rounds, args.frames, args.threads) < 1 or args.warm_up < 0:
        sys.exit("--rounds, --frames and --threads are at least 1, --warm-up at least 0")
    args.checkpoint = args.checkpoint.resolve()
    if not args.no_build:
        build()

    frames = (read_frames(args.input, width, height) if args.input
              else [synthetic_frame(width, height, seed) for seed in range(7)])
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        engine, missing = None, "not built"
        if ENGINE.exists():
            try:
                engine = Engine(args)
                np.concatenate([plane.ravel() for plane in frames[0]]).tofile(folder / "frame.i420")
                inputs_of("tensor", frames[0])["x"].tofile(folder / "frame.f32")
                engine.expect("ok", f"load planes {folder / 'frame.i420'}")
                engine.expect("ok", f"load tensor {folder / 'frame.f32'}")
            except Unavailable as reason:
                engine, missing = None, str(reason)
        if engine is None:
            print(f"ours: {missing}", file=sys.stderr)
        groups, flops, notes = {}, {}, []
        for form in FORMS:
            groups[form], flops[form], more = contestants(
                args, form, engine, missing, frames, folder)
            notes += more
        checks = {form: compare(form, runners) for form, runners in groups.items()}
        times = measure(args, groups)

    report = [f"{args.size}, {args.threads} threads, {args.checkpoint.name} at {args.tuning}; "
              f"medians of {args.rounds} rounds of {args.frames} frames. "
              f"ONNX Runtime {ort.__version__}, OpenVINO {ov.__version__.split('-')[0]}, "
              f"NNCF {nncf.__version__}.", ""]
    wrong = []
    for form, runners in groups.items():
        lines, mistakes = checks[form]
        wrong += mistakes
        report += [*table(form, runners, times, flops[form]), "", *(f"- {l}" for l in lines), ""]
    report += [f"- {note}" for note in notes]
    text = "\n".join(report).rstrip() + "\n"
    print(text)
    REPORT.write_text(text)
    if wrong:
        sys.exit("outputs differ:\n" + "\n".join(wrong))


if __name__ == "__main__":
    enter_venv()
    # NNCF and OpenVINO report their use over the network otherwise.
    os.environ.setdefault("NNCF_CI", "1")
    os.environ.setdefault("CI", "true")

    import logging
    import statistics

    import nncf
    import numpy as np
    import onnx
    import onnxruntime as ort
    import openvino as ov
    from onnxruntime import quantization

    nncf.set_log_level(logging.ERROR)
    logging.getLogger().setLevel(logging.ERROR)
    try:
        main()
    except Unavailable as reason:
        sys.exit(f"the run broke off: {reason}")
