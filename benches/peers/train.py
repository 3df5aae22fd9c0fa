#!/usr/bin/env python3
"""Times a training step of this project against PyTorch's on the same nets and batches.

Both run once in every round, in one process tree, on the same threads, so that whatever slows the
machine slows both. See README.md beside this file.
"""

import argparse
import json
import os
import pathlib
import queue
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = ROOT / "target"
VENV = TARGET / "torch-venv"
REPORT = TARGET / "peers-train.md"
TORCH = "torch==2.15.0"

# Between contestants, for the last one's threads to stop spinning: PyTorch's do so for long.
PAUSE_S = 0.5
# A turn begins with this much of untimed steps: cores that were idle take many to reach their speed.
WARM_UP_S = 0.1
# Largest difference of a loss or gradient, relative to the largest value of its tensor.
TOLERANCE = 1e-3

NETS = {
    "video": "video net C=32 N=4, 16 crops of 64×64 luma, 4 tunings",
    "edsr": "EDSR 8 blocks × 32 channels, RGB, 16 crops of 48×48, 16 tunings",
}
TRAINER = "the video net's trainer, degradations included"
# N, C_in, H, W, B, C_out, K, stride, groups; forward and all gradients.
LAYERS = [
    (16, 32, 32, 32, 4, 32, 3, 1, 1), (16, 6, 32, 32, 4, 32, 3, 1, 1),
    (16, 32, 32, 32, 4, 6, 3, 1, 1),
    (16, 32, 48, 48, 1, 32, 3, 1, 1), (16, 32, 48, 48, 16, 32, 3, 1, 1),
    (16, 32, 64, 64, 16, 32, 3, 1, 1), (16, 3, 48, 48, 16, 32, 3, 1, 1),
    (16, 32, 48, 48, 16, 3, 3, 1, 1),
    (16, 180, 8, 8, 1, 180, 3, 1, 1), (16, 180, 8, 8, 16, 180, 3, 1, 1),
    (16, 64, 16, 16, 1, 64, 3, 1, 1), (16, 64, 16, 16, 16, 64, 3, 1, 1),
    (16, 64, 24, 24, 1, 64, 3, 1, 1), (8, 180, 32, 32, 8, 180, 3, 1, 1),
    (8, 64, 64, 64, 8, 128, 3, 2, 1), (8, 64, 64, 64, 1, 64, 3, 1, 4),
    (8, 64, 64, 64, 1, 64, 3, 1, 64), (8, 64, 64, 64, 8, 64, 3, 1, 64),
    (8, 256, 16, 16, 8, 256, 3, 1, 256), (8, 64, 64, 64, 1, 64, 7, 1, 64),
    (4, 3, 64, 64, 4, 32, 9, 1, 1), (4, 32, 64, 64, 4, 3, 9, 1, 1),
    (4, 32, 64, 64, 1, 32, 7, 1, 1),
    (8, 32, 64, 64, 8, 64, 1, 1, 1), (8, 128, 32, 32, 8, 128, 1, 1, 1),
    (8, 256, 16, 16, 8, 512, 1, 1, 1), (8, 384, 8, 8, 8, 384, 1, 1, 1),
]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=3, help="rounds before those that count")
    parser.add_argument("--steps", type=int, default=3,
                        help="timed steps per contestant and round, after 0.1 s untimed")
    parser.add_argument("--only", choices=["nets", "layers"], help="one of the two tables")
    parser.add_argument("--layers", metavar="REGEX", default="",
                        help="of the second table, only layers whose name in it matches")
    parser.add_argument("--python", type=pathlib.Path,
                        help="a Python that has torch and numpy, instead of target/torch-venv")
    parser.add_argument("--binary", type=pathlib.Path,
                        help="the peer_train example, instead of building it")
    return parser.parse_args()


def enter_venv(args):
    """Goes on in a Python that has PyTorch, installed when there is none."""
    python = args.python or VENV / "bin" / "python3"
    if pathlib.Path(sys.prefix).resolve() == python.parent.parent.resolve():
        return
    if not python.exists():
        venv.create(VENV, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", TORCH, "numpy"], check=True)
    os.execv(python, [python, __file__, *sys.argv[1:]])


def build():
    command = ["cargo", "build", "--release", "-p", "tunableconv-train", "--example", "peer_train",
               "--message-format", "json"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    made = [json.loads(line).get("executable") for line in output.splitlines()]
    return next(path for path in reversed(made) if path)


class Ours:
    """This project: one process, spoken to in lines."""

    def __init__(self, binary, threads):
        # As tunableconv-train sets them for itself.
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "CANDLE_NUM_THREADS": "1"}
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1, env=environment)
        self.answer()

    def answer(self):
        answer = self.process.stdout.readline().strip()
        if not answer or answer.startswith("error"):
            sys.exit(f"peer_train: {answer or 'ended'}")
        return answer

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def time(self, what, count):
        return [float(word) for word in self.ask(f"{what} {count}").split()]


def read_safetensors(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(array.copy())
    return tensors


def to_groups(x, sets):
    """`[N, C, H, W]` with the samples of a kernel set, or of N / B of them, side by side in C."""
    n, c, h, w = x.shape
    return x.view(sets, n // sets, c, h, w).transpose(0, 1).reshape(n // sets, sets * c, h, w)


class Conv:
    """Convolutions with `sets` kernel sets, in one of the ways that PyTorch offers."""

    WAYS = ["grouped", "grouped, channels_last", "one by one", "one by one, channels_last"]

    def __init__(self, way, sets):
        self.sets, self.split = sets, way.startswith("one by one") and sets > 1
        last = way.endswith("channels_last")
        self.format = torch.channels_last if last else torch.contiguous_format

    def enter(self, x):
        """The maps as the convolutions take them; the way in and out is part of a step."""
        if self.split:
            return [part.contiguous(memory_format=self.format) for part in x.chunk(self.sets)]
        return [to_groups(x, self.sets).contiguous(memory_format=self.format)]

    def __call__(self, xs, weight, bias, stride=1, groups=1):
        """`weight` `[B, C_out, C_in / groups, K, K]`, `bias` `[B, C_out]`."""
        padding = weight.shape[-1] // 2
        if self.split:
            return [functional.conv2d(x, weight[i], bias[i], stride, padding, 1, groups)
                    for i, x in enumerate(xs)]
        groups *= self.sets
        return [functional.conv2d(xs[0], weight.flatten(0, 1), bias.flatten(), stride, padding, 1,
                                  groups)]


class Torch:
    """A net in training: the same tensors under the same names."""

    def __init__(self, net, saved, way):
        self.net, self.omega = net, saved["omega"]
        self.values = {name.removeprefix("value."): tensor.clone().requires_grad_()
                       for name, tensor in saved.items() if name.startswith("value.")}
        self.conv = Conv(way, len(self.omega))
        self.x, self.target = saved["x"], saved["target"]
        self.adam = torch.optim.Adam(self.values.values(), lr=1e-4, fused=True)
        self.names = sorted({name.rsplit(".", 1)[0].removesuffix(".mlp") for name in self.values})
        if net == "video":
            order = {"head": 0, "tail": 2}
            self.names.sort(key=lambda name: (order.get(name.split(".")[0], 1), name))

    def layer(self, index, xs):
        """A tunable convolution: fold its banks, then convolve."""
        name, values = self.names[index], self.values
        mixing = self.omega
        if f"{name}.mlp.weight" in values:
            mixing = functional.linear(mixing, values[f"{name}.mlp.weight"],
                                       values[f"{name}.mlp.bias"])
        bank = values[f"{name}.weight"][0]
        weight = (mixing @ bank.flatten(1)).view(-1, *bank.shape[1:])
        if f"{name}.bias" in values:
            bias = mixing @ values[f"{name}.bias"][0]
        else:
            bias = weight.new_zeros(weight.shape[:2])
        return self.conv(xs, weight, bias)

    def outputs(self):
        xs = self.conv.enter(self.x)
        last = len(self.names) - 1
        if self.net == "video":
            for index in range(last):
                xs = [functional.leaky_relu(x, 0.1, inplace=True) for x in self.layer(index, xs)]
        else:
            xs = head = self.layer(0, xs)
            for index in range(1, last - 1, 2):
                inner = [functional.relu(x, inplace=True) for x in self.layer(index, xs)]
                xs = [x + y for x, y in zip(xs, self.layer(index + 1, inner))]
            xs = [x + y for x, y in zip(head, self.layer(last - 1, xs))]
        return self.layer(last, xs)

    def loss(self):
        ys, target = self.outputs(), self.conv.enter(self.target)
        return sum(functional.mse_loss(y, t) for y, t in zip(ys, target)) / len(ys)

    def step(self):
        self.adam.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        self.adam.step()
        return loss.item()

    def gradients(self):
        self.adam.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        return {"loss": loss.detach(),
                **{f"gradient.{name}": value.grad for name, value in self.values.items()}}


class Loader:
    """The batches of train.toml from vectorised tensor operations, on a thread of its own: blur and
    noise on crops of 80×80, a target for each corner, 4:2:0 planes rounded to 8 bit."""

    MICRO, EACH, SIDE, HALO = 4, 4, 64, 8
    # Which of a micro-batch's samples are noisy, and which are blurred.
    NOISY, BLURRED = [1, 0, 1, 1], [0, 1, 1, 1]
    # K_R and K_B of BT.601 and BT.709.
    WEIGHTS = [(0.299, 0.114), (0.2126, 0.0722)]

    def __init__(self):
        self.images = [(torch.rand(3, 512, 512) * 255).byte() for _ in range(8)]
        self.queue = queue.Queue(maxsize=4)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        # As in a worker of PyTorch's own loader; of this thread only.
        torch.set_num_threads(1)
        while True:
            self.queue.put(self.make())

    def crop(self):
        image = self.images[random.randrange(len(self.images))]
        side = self.SIDE + 2 * self.HALO
        y, x = (random.randrange(length - side + 1) for length in image.shape[1:])
        crop = image[:, y:y + side, x:x + side]
        if random.random() < 0.5:
            crop = crop.transpose(1, 2)
        flips = [dim for dim in (1, 2) if random.random() < 0.5]
        return crop.flip(flips)

    def blur(self, images, sigma):
        taps = torch.arange(-10, 11.)
        kernels = torch.exp(-taps ** 2 / (2 * sigma.clamp(min=1e-3)[:, None] ** 2))
        kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, 0)
        planes = functional.pad(images, (10, 10, 10, 10), mode="replicate").flatten(0, 1)[None]
        groups = planes.shape[1]
        planes = functional.conv2d(planes, kernels[:, None, None, :], groups=groups)
        planes = functional.conv2d(planes, kernels[:, None, :, None], groups=groups)
        return planes.view_as(images)

    def planes(self, rgb, matrix, limited):
        """`[K, N, 3, H, W]` to the net's `[K, N, 6, H / 2, W / 2]`."""
        y = torch.einsum("nc,knchw->knhw", matrix[:, 0], rgb)
        mean = functional.avg_pool2d(rgb.flatten(0, 1), 2).unflatten(0, rgb.shape[:2])
        uv = torch.einsum("nuc,knchw->knuhw", matrix[:, 1:], mean)
        span_y = torch.where(limited, 219., 255.)[None, :, None, None]
        span_uv = torch.where(limited, 224., 255.)[None, :, None, None, None]
        y = torch.round(y * span_y) / span_y
        uv = torch.round(uv * span_uv) / span_uv + 0.5
        return torch.cat([functional.pixel_unshuffle(y.unsqueeze(2), 2), uv], 2)

    def make(self):
        n = self.MICRO * self.EACH
        noisy = torch.tensor(self.NOISY * self.MICRO, dtype=torch.float32)
        blurred = torch.tensor(self.BLURRED * self.MICRO, dtype=torch.float32)
        clean = torch.stack([self.crop() for _ in range(n)]).float() / 255
        soft = self.blur(clean, torch.rand(n) * 2 * blurred)
        inner = slice(self.HALO, self.HALO + self.SIDE)
        clean, soft = clean[:, :, inner, inner], soft[:, :, inner, inner]
        noise = torch.randn_like(clean) * (torch.rand(n) * 50 / 255 * noisy)[:, None, None, None]
        # Bit 0 undoes the noise, bit 1 the blur.
        corners = torch.stack([soft + noise, soft, clean + noise, clean]).clamp_(0, 1)
        rows = []
        for kr, kb in (random.choice(self.WEIGHTS) for _ in range(n)):
            kg = 1 - kr - kb
            u = [-kr / (2 * (1 - kb)), -kg / (2 * (1 - kb)), 0.5]
            v = [0.5, -kg / (2 * (1 - kr)), -kb / (2 * (1 - kr))]
            rows.append([[kr, kg, kb], u, v])
        corners = self.planes(corners, torch.tensor(rows), torch.rand(n) < 0.5)
        omega = torch.where(torch.rand(self.MICRO, 1) < 0.5, torch.randint(0, 2, (self.MICRO, 2)).float(),
                            torch.rand(self.MICRO, 2))
        each = omega.repeat_interleave(self.EACH, 0)
        a, b = each[:, 0], each[:, 1]
        weights = torch.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b])
        target = torch.einsum("kn,knchw->nchw", weights, corners) - corners[0]
        error = (corners[0] - corners[3]).square().mean((2, 3))
        luma, chroma = error[:, :4].mean(1, keepdim=True), error[:, 4:].mean(1, keepdim=True)
        scales = 1 / (torch.cat([luma.expand(-1, 4), chroma.expand(-1, 2)], 1) + (2 / 255) ** 2)
        return corners[0], target, scales, omega


class TorchTrainer(Torch):
    """The video net with its loader and its loss."""

    def __init__(self, saved, way):
        super().__init__("video", saved, way)
        self.loader = Loader()

    def step(self):
        self.x, target, scales, self.omega = self.loader.queue.get()
        self.adam.zero_grad(set_to_none=True)
        ys = self.outputs()
        if not self.conv.split:
            # Back from channels side by side, see `to_groups`.
            ys = [ys[0].unflatten(1, (self.conv.sets, -1)).transpose(0, 1).flatten(0, 1)]
        errors = (torch.cat(ys) - target).square().mean((2, 3)) * scales
        loss = errors.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.values.values(), 1.0)
        self.adam.step()
        return loss.item()


class TorchLayer:
    def __init__(self, sizes, way):
        n, c_in, h, w, sets, c_out, k, self.stride, self.groups = sizes
        self.conv = Conv(way, sets)
        self.xs = [x.requires_grad_() for x in self.conv.enter(torch.randn(n, c_in, h, w))]
        self.weight = torch.randn(sets, c_out, c_in // self.groups, k, k, requires_grad=True)
        self.bias = torch.randn(sets, c_out, requires_grad=True)
        self.grads = [torch.randn_like(y) for y in self.pass_forward()]

    def pass_forward(self):
        return self.conv(self.xs, self.weight, self.bias, self.stride, self.groups)

    def step(self):
        torch.autograd.grad(self.pass_forward(), [*self.xs, self.weight, self.bias], self.grads)


def time_steps(run, count):
    times = []
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP_S:
        run()
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1000)
    return times


def fastest(make, steps):
    """The contestant and the name of the way that PyTorch is fastest in."""
    made = [(way, make(way)) for way in Conv.WAYS]
    runs = [[] for _ in made]
    for _ in range(3):
        for (_, runner), times in zip(made, runs):
            times += time_steps(runner.step, steps)
    best = min(range(len(made)), key=lambda i: statistics.median(runs[i]))
    return made[best]


def check(name, saved, runner):
    """Lines on how far losses and gradients are from each other, and what is wrong with them."""
    worst, wrong = 0.0, []
    for key, got in runner.gradients().items():
        want = saved[key]
        error = ((got - want).abs().max() / want.abs().max()).item()
        # Written so that NaN is refused too.
        if not error <= TOLERANCE:
            wrong.append(f"{name}: {key} differs by {error:.3g} of its largest value")
        worst = max(worst, error)
    return f"{name}: loss and gradients differ by {worst:.1g} of a tensor's largest value at most", wrong


def conv_flop(sizes):
    """Of forward, data gradient and weight gradient."""
    n, c_in, h, w, _, c_out, k, stride, groups = sizes
    return 3 * 2 * n * c_out * (c_in // groups) * k * k * -(-h // stride) * -(-w // stride)


def net_flop(saved):
    """Of the convolutions; the first one's data gradient is not computed."""
    n, _, h, w = saved["x"].shape
    banks = [t for name, t in saved.items() if name.startswith("value.") and t.dim() == 6]
    total = sum(3 * 2 * n * h * w * bank[0, 0].numel() for bank in banks)
    first = next(bank for name, bank in sorted(saved.items())
                 if name.startswith("value.") and bank.dim() == 6
                 and bank.shape[3] == saved["x"].shape[1])
    return total - 2 * n * h * w * first[0, 0].numel()


def measure(args, pairs, rounds, warm_up):
    """Milliseconds of each round: name → a list for each of the runs."""
    times = {name: [[] for _ in runs] for name, runs in pairs.items()}
    for turn in range(warm_up + rounds):
        for name, runs in pairs.items():
            for run, kept in zip(runs, times[name]):
                time.sleep(PAUSE_S)
                sample = statistics.median(run(args.steps))
                if turn >= warm_up:
                    kept.append(sample)
        print(f"\rround {turn + 1} of {warm_up + rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return times


def rows(times, flops, ways):
    for name, (ours, theirs, *stores) in times.items():
        ratio = statistics.median(b / a for a, b in zip(ours, theirs))
        a, b = statistics.median(ours), statistics.median(theirs)
        row = f"| {name} | {a:.2f} | {b:.2f} | {ratio:.2f} "
        for store in stores:
            own = statistics.median(b / (a - s) for a, b, s in zip(ours, theirs, store))
            row += f"| {statistics.median(store):.2f} | {own:.2f} "
        yield row + (f"| {flops[name] / a / 1e6:.0f} | {flops[name] / b / 1e6:.0f} "
                     f"| {ways[name]} |")


def header(what, *more):
    titles = [what, "ours, ms", "PyTorch, ms", "ours is × as fast", *more, "ours, GFLOP/s",
              "PyTorch, GFLOP/s", "PyTorch's way"]
    return [f"| {' | '.join(titles)} |", f"|---|{'---:|' * (len(titles) - 2)}---|"]


def main(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    ours = Ours(args.binary or build(), args.threads)
    report = [f"PyTorch {torch.__version__}, {args.threads} threads; medians of {args.rounds} "
              f"rounds of {args.steps} steps.", ""]
    wrong = []
    if args.only != "layers":
        pairs, flops, ways, notes = {}, {}, {}, []
        with tempfile.TemporaryDirectory() as folder:
            for net, title in NETS.items():
                file = pathlib.Path(folder) / f"{net}.safetensors"
                ours.ask(f"save {net} {file}")
                saved = read_safetensors(file)
                videos = saved if net == "video" else videos
                for way in Conv.WAYS:
                    line, mistakes = check(title, saved, Torch(net, saved, way))
                    wrong += mistakes
                notes.append(line)
                ways[title], runner = fastest(lambda way: Torch(net, saved, way), args.steps)
                flops[title] = net_flop(saved)
                pairs[title] = (lambda count, net=net: ours.time(f"time {net}", count),
                                lambda count, runner=runner: time_steps(runner.step, count))
        if wrong:
            sys.exit("losses or gradients differ:\n" + "\n".join(wrong))
        times = measure(args, pairs, args.rounds, args.warm_up)
        # By themselves, so that no loader works while something else is timed.
        ways[TRAINER], flops[TRAINER] = ways[NETS["video"]], flops[NETS["video"]]
        trainer = TorchTrainer(videos, ways[TRAINER])
        pairs = {TRAINER: (lambda count: ours.time("time trainer", count),
                           lambda count: time_steps(trainer.step, count))}
        times.update(measure(args, pairs, args.rounds, args.warm_up))
        report += header("training step")
        report += [*rows(times, flops, ways), "", *(f"- {note}" for note in notes), ""]
    if args.only != "nets":
        pairs, flops, ways = {}, {}, {}
        for sizes in LAYERS:
            n, c_in, h, w, sets, c_out, k, stride, groups = sizes
            title = f"{n}×{c_in}×{h}×{w} → {c_out}, {k}×{k}, {sets} sets"
            title += f", stride {stride}" * (stride > 1) + f", {groups} groups" * (groups > 1)
            if not re.search(args.layers, title):
                continue
            ways[title], runner = fastest(lambda way: TorchLayer(sizes, way), args.steps)
            flops[title] = conv_flop(sizes)
            layer = ",".join(map(str, sizes))
            pairs[title] = (lambda count, layer=layer: ours.time(f"layer {layer}", count),
                            lambda count, runner=runner: time_steps(runner.step, count),
                            lambda count, layer=layer: ours.time(f"store {layer}", count))
        times = measure(args, pairs, args.rounds, args.warm_up)
        report += header("layer, there and back", "of it candle's gradient store, ms",
                         "ours without it is × as fast")
        report += [*rows(times, flops, ways), ""]
    text = "\n".join(report).rstrip() + "\n"
    print(text)
    TARGET.mkdir(exist_ok=True)
    REPORT.write_text(text)


if __name__ == "__main__":
    parsed = arguments()
    enter_venv(parsed)

    import numpy as np
    import torch
    from torch.nn import functional

    main(parsed)
