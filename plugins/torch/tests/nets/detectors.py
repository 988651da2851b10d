"""Detectors as MMDetection builds them, with seeded weights. Runs where torch is: in the plugin's environment.

Dense: backbone, feature pyramid, a head shared by the levels, anchors, boxes as distances from anchors (RetinaNet, Lin
et al., ICCV 2017). Two stages: proposals of the first, suppressed, pooled by RoIAlign, judged and moved by the second
(Faster R-CNN, Ren et al., NeurIPS 2015; RoIAlign of He et al., ICCV 2017). What stands outside of the networks, the
resize, the normalisation and the last suppression, is in `prepared` and `suppressed`.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn
from torch.nn import functional

CLASSES = 3
HEIGHT, WIDTH = 96, 128
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
LARGEST = abs(math.log(16 / 1000))
"""Of the logarithm of a box's growth: beyond, e^x runs away."""
PROPOSALS = 24


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Pyramid(nn.Module):
    """Features of strides 8, 16 and 32, `channels` each."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(block(3, 8, 2), block(8, 12, 2))
        widths = (12, 16, 24, 32)
        self.stages = nn.ModuleList([block(a, b, 2) for a, b in itertools.pairwise(widths)])
        self.lateral = nn.ModuleList([nn.Conv2d(width, channels, 1) for width in widths[1:]])
        self.smooth = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1) for _ in self.lateral])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        levels = [lateral(each) for lateral, each in zip(self.lateral, found, strict=True)]
        for upper in (1, 0):
            size = levels[upper].shape[-2:]
            levels[upper] = levels[upper] + functional.interpolate(levels[upper + 1], size=size, mode="nearest")
        return [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]


def anchors(height: int, width: int, stride: int) -> torch.Tensor:
    """Corners [height * width * 3, 4] of three shapes around each cell."""
    ratios = torch.tensor([0.5, 1.0, 2.0]).sqrt()
    half_w, half_h = stride * 2 / ratios, stride * 2 * ratios
    base = torch.stack([-half_w, -half_h, half_w, half_h], 1)
    ys = (torch.arange(height) + 0.5) * stride
    xs = (torch.arange(width) + 0.5) * stride
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    centres = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
    return (centres + base).reshape(-1, 4)


def decoded(boxes: torch.Tensor, deltas: torch.Tensor) -> torch.Tensor:
    """`deltas` [..., 4] of centre and logarithm of size, applied to corners, cut to the image."""
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + size / 2 + deltas[..., :2] * size
    size = size * deltas[..., 2:].clamp(-LARGEST, LARGEST).exp()
    corners = torch.cat([centre - size / 2, centre + size / 2], -1)
    limits = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT], dtype=corners.dtype)
    return torch.minimum(corners.clamp(min=0), limits)


class Head(nn.Module):
    """Scores and distances for three anchors of each cell."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.tower = block(channels, channels, 1)
        self.score = nn.Conv2d(channels, 3 * classes, 3, padding=1)
        self.delta = nn.Conv2d(channels, 3 * 4, 3, padding=1)

    def forward(self, levels: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        scores, boxes = [], []
        for place, level in enumerate(levels):
            x = self.tower(level)
            count = level.shape[0]
            score = self.score(x).permute(0, 2, 3, 1).reshape(count, -1, self.classes)
            delta = self.delta(x).permute(0, 2, 3, 1).reshape(count, -1, 4)
            scores.append(score.sigmoid())
            boxes.append(decoded(anchors(level.shape[2], level.shape[3], 8 << place), delta))
        return torch.cat(scores, 1), torch.cat(boxes, 1)


class Dense(nn.Module):
    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.neck = Pyramid(channels)
        self.head = Head(channels, CLASSES)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        scores, boxes = self.head(self.neck(image))
        return {"scores": scores, "boxes": boxes}


def overlaps(boxes: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each box with each, [N, N]."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1)
    return shared / (area[:, None] + area[None, :] - shared).clamp(min=1e-6)


def pooled(level: torch.Tensor, boxes: torch.Tensor, stride: int, side: int = 4) -> torch.Tensor:
    """RoIAlign, aligned, one sample a bin: [N, C, side, side] of `level` [1, C, H, W]."""
    steps = (torch.arange(side) + 0.5) / side
    xs = boxes[:, 0:1] + (boxes[:, 2:3] - boxes[:, 0:1]) * steps
    ys = boxes[:, 1:2] + (boxes[:, 3:4] - boxes[:, 1:2]) * steps
    height, width = level.shape[2] * stride, level.shape[3] * stride
    count = boxes.shape[0]
    grid_x = (xs / width * 2 - 1)[:, None, :].expand(count, side, side)
    grid_y = (ys / height * 2 - 1)[:, :, None].expand(count, side, side)
    grid = torch.stack([grid_x, grid_y], -1).reshape(1, count * side, side, 2)
    taken = functional.grid_sample(level, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return taken.reshape(level.shape[1], count, side, side).permute(1, 0, 2, 3)


class TwoStage(nn.Module):
    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.neck = Pyramid(channels)
        self.proposals = Head(channels, 1)
        self.shared = nn.Sequential(nn.Linear(channels * 16, 32), nn.ReLU())
        self.score = nn.Linear(32, CLASSES + 1)
        self.delta = nn.Linear(32, 4)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        levels = self.neck(image)
        scores, boxes = self.proposals(levels)
        best, places = scores[0, :, 0].topk(PROPOSALS)
        chosen = boxes[0][places].detach()
        # Suppression in one step: a proposal goes where any better one overlaps it.
        better = overlaps(chosen) * torch.ones(PROPOSALS, PROPOSALS).triu(1)
        kept = (better.amax(0) < 0.7).to(best.dtype)
        x = self.shared(pooled(levels[0], chosen, 8).flatten(1))
        chances = self.score(x).softmax(-1) * kept[:, None]
        return {"scores": chances[None], "boxes": decoded(chosen, self.delta(x) * 0.1)[None]}


def prepared(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [H, W, 3] RGB, twice the network's size, to its input: each 2 x 2 pixels as one, then normalised."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    blocks = pixels.reshape(height, 2, width, 2, 3).to(torch.int32).sum((1, 3))
    small = torch.div(blocks + 2, 4, rounding_mode="floor").to(torch.float32)
    return ((small - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1)[None]


def suppressed(
    scores: torch.Tensor, boxes: torch.Tensor, *, threshold: float, overlap: float, most: int, first_class: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The boxes that are left, in pixels of the photograph, with scores and classes, the best first."""
    left = []
    for column in range(first_class, scores.shape[-1]):
        order = scores[0, :, column].argsort(descending=True, stable=True)
        order = order[scores[0, order, column] > threshold]
        while len(order):
            best = order[0]
            left.append((float(scores[0, best, column]), column, boxes[0, best]))
            others = torch.cat([boxes[0, best][None], boxes[0, order[1:]]])
            order = order[1:][overlaps(others)[0, 1:] <= overlap]
    left.sort(key=lambda each: -each[0])
    left = left[:most]
    corners = torch.stack([each[2] for each in left]) * 2
    return corners, torch.tensor([each[0] for each in left]), torch.tensor([each[1] for each in left])


def seeded(kind: type[nn.Module]) -> nn.Module:
    """Weights with which scores and boxes spread, and statistics of a net that was trained."""
    torch.manual_seed(11)
    net = kind()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.3, 1.0)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            part.weight.mul_(1.6)
    if isinstance(net, TwoStage):
        net.score.weight.mul_(8)
    return net.eval()


def dense() -> nn.Module:
    return Dense()


def two_stage() -> nn.Module:
    return TwoStage()
