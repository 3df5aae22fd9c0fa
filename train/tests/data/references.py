"""Values that published code gives for the losses tested in train/tests/loss.

    python references.py [FOLDER]

FOLDER holds squeezenet1_1.safetensors, lpips_v0.1_squeeze_lin.safetensors and
vgg19_relu4_1_fp16.safetensors; without it those values are left out.

Made with Python 3.11, numpy 2.4.6, torch 2.15.0, torchvision 0.29.2, scikit-image 0.26.0,
pytorch-msssim 1.0.0, lpips 0.1.4, pillow 13.0.0.
"""

import json
import os
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_msssim import ms_ssim
from skimage.metrics import structural_similarity

HERE = os.path.dirname(os.path.abspath(__file__))
NUMPY = {"F16": np.float16, "F32": np.float32}


def pair(name):
    """A picture, and itself shifted left by a pixel and quantised to steps of 24 code values."""
    x = np.asarray(Image.open(os.path.join(HERE, name)).convert("RGB")).astype(np.int64)
    shifted = np.concatenate([x[:, 1:], x[:, -1:]], axis=1)
    return x / 255.0, (shifted // 24 * 24 + 12) / 255.0


def batch(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def window():
    """The window of SSIM in double precision: the package's own is rounded to single, and its sum
    then misses 1 by enough to move the variance of flat windows."""
    weights = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    return (weights / weights.sum()).view(1, 1, 1, 11).repeat(3, 1, 1, 1)


def read(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    header.pop("__metadata__", None)
    return {
        name: torch.from_numpy(
            np.frombuffer(body[slice(*t["data_offsets"])], NUMPY[t["dtype"]])
            .reshape(t["shape"])
            .astype(np.float64)
        )
        for name, t in header.items()
    }


def lpips_net(folder):
    import lpips

    net = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False).double()
    weights = read(os.path.join(folder, "squeezenet1_1.safetensors"))
    state = net.net.state_dict()
    # "slice3.6.squeeze.weight" is torchvision's "features.6.squeeze.weight".
    net.net.load_state_dict({k: weights["features." + k.split(".", 1)[1]] for k in state})
    heads = read(os.path.join(folder, "lpips_v0.1_squeeze_lin.safetensors"))
    for i, lin in enumerate(net.lins):
        assert torch.equal(lin.model[1].weight, heads[f"lin{i}.weight"]), f"lin{i}"
    return net


def vgg_features(weights, rgb):
    x = rgb * 255 - torch.tensor([123.68, 116.779, 103.939], dtype=rgb.dtype).view(1, 3, 1, 1)
    taps = []
    for index in (0, 2, 5, 7, 10, 12, 14, 16, 19):
        if index in (5, 10, 19):
            x = F.max_pool2d(x, 2)
        name = f"features.{index}"
        x = F.relu(F.conv2d(x, weights[name + ".weight"], weights[name + ".bias"], padding=1))
        if index in (0, 5, 10, 19):
            taps.append(x)
    return taps


def gram(f):
    f = f.flatten(2)
    return f @ f.transpose(1, 2) / (f.shape[1] * f.shape[2])


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    net = lpips_net(folder) if folder else None
    vgg = read(os.path.join(folder, "vgg19_relu4_1_fp16.safetensors")) if folder else None
    for name in ("houses.png", "glass.png"):
        x, y = pair(name)
        print(name)
        print(
            "  ssim   ",
            structural_similarity(
                x,
                y,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1.0,
                channel_axis=2,
            ),
        )
        x, y = batch(x), batch(y)
        print("  ms_ssim", ms_ssim(x, y, data_range=1.0, win=window()).item())
        if folder:
            with torch.no_grad():
                print("  lpips  ", net(x, y, normalize=True).item())
                a, b = vgg_features(vgg, x), vgg_features(vgg, y)
                content = [F.mse_loss(a, b).item() for a, b in zip(a, b)]
                style = [(gram(a) - gram(b)).square().sum().item() for a, b in zip(a, b)]
                print("  vgg19 features", np.mean(content), "style", np.mean(style))


if __name__ == "__main__":
    main()
