"""The network of the slim face detector in the shared models, whose .pth holds weights alone.

Written from the layers of its ONNX and Caffe files; the names of the parts are those of the weights.
"""

from __future__ import annotations

import torch
from torch import nn

BASE = ((16, 1), (32, 2), (32, 1), (32, 2), (64, 1), (64, 1), (64, 1), (64, 2), (128, 1), (128, 1), (128, 2), (256, 1))
"""Inputs and stride of each block after the first convolution."""
BOXES = (3, 2, 2, 3)
"""At each cell of a level."""
LEVELS = (8, 11, 13)
"""Blocks after which a level's heads look at the features."""


def separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False), nn.BatchNorm2d(inputs), nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


def plain(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1)
    )


class Slim(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [*(width for width, _ in BASE), 256]
        first = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        blocks = [separable(widths[n], widths[n + 1], stride) for n, (_, stride) in enumerate(BASE)]
        self.base_net = nn.Sequential(first, *blocks)
        self.extras = nn.ModuleList([nn.Sequential(nn.Conv2d(256, 64, 1), nn.ReLU(), plain(64, 256, 2), nn.ReLU())])

        def heads(numbers: int) -> nn.ModuleList:
            made = [plain(width, count * numbers) for width, count in zip((64, 128, 256), BOXES, strict=False)]
            return nn.ModuleList([*made, nn.Conv2d(256, BOXES[3] * numbers, 3, padding=1)])

        self.classification_headers = heads(2)
        self.regression_headers = heads(4)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        levels, x, start = [], image, 0
        for end in LEVELS:
            x = self.base_net[start:end](x)
            levels.append(x)
            start = end
        levels.append(self.extras[0](x))

        def rows(heads: nn.ModuleList, numbers: int) -> torch.Tensor:
            found = [head(level) for head, level in zip(heads, levels, strict=True)]
            return torch.cat([each.permute(0, 2, 3, 1).reshape(each.shape[0], -1, numbers) for each in found], 1)

        scores = rows(self.classification_headers, 2).softmax(2)
        return {"scores": scores, "boxes": rows(self.regression_headers, 4)}


def make() -> nn.Module:
    return Slim()
