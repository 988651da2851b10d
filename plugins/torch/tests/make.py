"""Writes the models of the tests: `python make.py FOLDER`, in the plugin's environment.

Everything that torch saves is made here, since the tests' own environment has no torch.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "nets"))
import detectors
import plain

OPEN = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}


class Custom(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.acme.twice(torch.ops.acme.shift(x))


def programs(out: Path) -> None:
    x = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        net = plain.seeded(plain.Classifier).eval()
        torch.export.save(torch.export.export(net, (x,), dynamic_shapes={"x": OPEN}), out / "open.pt2")
        torch.export.save(torch.export.export(net, (x,)), out / "fixed.pt2")
        torch.export.save(torch.export.export(net.train(), (x,)), out / "training.pt2")
        torch.export.save(torch.export.export(Custom(), (x,)), out / "custom.pt2")
        airy = plain.Unsayable().eval()
        torch.export.save(torch.export.export(airy, (x,)), out / "unsayable.pt2")


def scripts(out: Path) -> None:
    with torch.no_grad():
        torch.jit.script(plain.seeded(plain.Positive)).save(out / "training.jit")
        torch.jit.trace(plain.seeded(plain.Positive).eval(), torch.randn(2, 3, 16, 24)).save(out / "traced.jit")
        torch.jit.script(plain.seeded(plain.Flagged).eval()).save(out / "flagged.jit")
        torch.jit.script(plain.Keeping().eval()).save(out / "keeping.jit")
        torch.jit.script(plain.Branching().eval()).save(out / "branching.jit")
        torch.jit.script(Custom()).save(out / "custom.jit")
        torch.jit.script(Reaching()).save(out / "reaching.jit")


class Reaching(torch.nn.Module):
    """TorchScript can write files."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "canary")
        return x + 1


def weights(out: Path) -> None:
    from safetensors.torch import save_file

    net = plain.seeded(plain.Classifier)
    held = net.state_dict()
    torch.save(held, out / "zipped.pth")
    torch.save(held, out / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(held, out / "weights.safetensors")
    torch.save({"epoch": 3, "model": {f"module.{name}": each for name, each in held.items()}}, out / "checkpoint.pth")
    torch.save({"model": held, "ema": held}, out / "twice.pth")
    torch.save(net, out / "whole.pth")
    torch.save([1, 2], out / "list.pth")
    other = {name: each for name, each in held.items() if name != "conv.bias"}
    torch.save({**other, "head.weight": torch.zeros(5, 4), "more": torch.zeros(1)}, out / "other.pth")
    torch.save({}, out / "empty.pth")
    # For modules without weights of their own.
    torch.save({"unused": torch.zeros(1)}, out / "unused.pth")


def references(out: Path) -> None:
    """What the nets compute, by torch."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((3, 3, 20, 28)).astype("f4")
    with torch.no_grad():
        found = plain.seeded(plain.Classifier).eval()(torch.from_numpy(x))
    np.savez(out / "classifier.npz", x=x, **{name: each.numpy() for name, each in found.items()})


def photograph() -> np.ndarray:
    """Blobs of colour on a gradient, uint8 [192, 256, 3]: something for a detector to differ about."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: detectors.HEIGHT * 2, : detectors.WIDTH * 2].astype("f4")
    image = np.stack([x / 2, y / 2, 128 + 0 * x], 2)
    for _ in range(40):
        cy, cx, size = rng.uniform(0, 192), rng.uniform(0, 256), rng.uniform(6, 40)
        image[((y - cy) ** 2 + (x - cx) ** 2) < size**2] = rng.uniform(0, 255, 3)
    return image.clip(0, 255).astype("u1")


def png(pixels: np.ndarray) -> bytes:
    """PNG, 8-bit RGB, without a library (ISO/IEC 15948)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def find(out: Path) -> None:
    """The detectors, saved both ways, and the boxes that torch finds in the photograph."""
    pixels = photograph()
    (out / "photograph.png").write_bytes(png(pixels))
    image = detectors.prepared(torch.from_numpy(pixels))
    for name, kind, threshold, first in (("dense", detectors.Dense, 0.6, 0), ("two_stage", detectors.TwoStage, 0.3, 1)):
        with torch.no_grad():
            net = detectors.seeded(kind)
            found = net(image)
            torch.save(net.state_dict(), out / f"{name}.pth")
            torch.export.save(torch.export.export(net, (image,)), out / f"{name}.pt2")
            boxes, scores, classes = detectors.suppressed(
                found["scores"], found["boxes"], threshold=threshold, overlap=0.5, most=50, first_class=first
            )
        np.savez(
            out / f"{name}.npz", image=image.numpy(), boxes=boxes.numpy(), scores=scores.numpy(),
            classes=classes.numpy(), raw_scores=found["scores"].numpy(), raw_boxes=found["boxes"].numpy(),
        )  # fmt: skip
        assert len(boxes) > 3, (name, len(boxes))


@torch.library.custom_op("acme::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@torch.library.custom_op("acme::shift", mutates_args=())
def shift(x: torch.Tensor) -> torch.Tensor:
    return x + 1


twice.register_fake(torch.empty_like)
shift.register_fake(torch.empty_like)


def main(out: Path) -> None:
    torch.set_num_threads(1)
    for part in (programs, scripts, weights, references, find):
        part(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
