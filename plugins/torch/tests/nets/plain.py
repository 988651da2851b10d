"""Small nets with seeded weights. Runs where torch is: in the plugin's environment."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Classifier(nn.Module):
    """Batch normalisation and dropout, which compute otherwise while a net is trained; two named outputs."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = torch.relu(self.norm(self.conv(x)))
        return {"scores": self.head(self.drop(maps.mean((2, 3)))), "maps": maps}


class Positive(nn.Module):
    """One output without a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Classifier()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.inner(x)["scores"], 1)


class Flagged(nn.Module):
    """An argument that is no tensor, one that may be left out, and a loop over a list of parts."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])

    def forward(self, x: torch.Tensor, steps: int, bias: torch.Tensor | None = None) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        for part in self.parts:
            x = torch.relu(part(x)) if steps > 1 else part(x)
            found.append(x)
        for turn in range(steps):
            found[-1] = found[-1] * (turn + 1)
        if bias is not None:
            found[-1] = found[-1] + bias
        if x.dim() != 2:
            raise ValueError(f"expected 2 axes, got {x.dim()}")
        return found


class Counter(nn.Module):
    """Keeps a running sum between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 4))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total = self.total * 0.5 + x
        self.calls += 1
        return self.total * 2.0


class Keeping(nn.Module):
    """A part that keeps something."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Counter()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(x) + 1.0


class Bare(nn.Module):
    """Without weights that count."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unused", torch.zeros(1))


class Branching(Bare):
    """What it does depends on values: no trace can say it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            return x * 2
        return x - 1


class FixedBatch(Bare):
    """Its reshape fixes the first axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 3, -1).sum(2)


class Unsayable(Bare):
    """Two operators that ONNX lacks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.airy_ai(x) + torch.special.bessel_j0(x)


def seeded(kind: type[nn.Module], *arguments: Any) -> nn.Module:
    """With statistics of a net that was trained."""
    torch.manual_seed(7)
    net = kind(*arguments)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.5, 0.5)
            part.running_var.uniform_(0.5, 2.0)
    return net


def classifier(width: int = 4) -> nn.Module:
    return Classifier(width)


def flagged() -> nn.Module:
    return Flagged()


def branching() -> nn.Module:
    return Branching()


def fixed_batch() -> nn.Module:
    return FixedBatch()


def unsayable() -> nn.Module:
    return Unsayable()


def failing() -> nn.Module:
    raise KeyError("no such setting")


def leaving() -> nn.Module:
    raise SystemExit(0)


def nothing() -> None:
    return None
