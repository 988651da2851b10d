"""Three networks with seeded weights through both of torch's exporters: runs in the environment with torch.

`python networks.py FOLDER` writes minilm, vit and mobilenet, each as NAME-legacy.onnx and NAME-dynamo.onnx. They are
written as their authors write them: plain modules, no export tricks.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

_LEGACY_OPSET = 17
_DYNAMO_OPSET = 20


class SelfAttention(nn.Module):
    """Heads by view and permute, scores by matmul and softmax, as BERT's code writes them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, length, width = hidden.shape
        query, key, value = (
            layer(hidden).view(batch, length, self.heads, self.size).permute(0, 2, 1, 3)
            for layer in (self.query, self.key, self.value)
        )
        scores = torch.matmul(query, key.transpose(-1, -2)) / self.size**0.5 + mask
        context = torch.matmul(F.softmax(scores, dim=-1), value).permute(0, 2, 1, 3).contiguous()
        return self.out(context.view(batch, length, width))


class BertLayer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.norm1(hidden + self.attention(hidden, mask))
        return self.norm2(hidden + self.down(F.gelu(self.up(hidden))))


class MiniLM(nn.Module):
    """A sentence encoder: 6 layers of 384, mean over the tokens that the mask names, unit length."""

    def __init__(self, words: int = 3000, width: int = 384, layers: int = 6) -> None:
        super().__init__()
        self.words, self.types = nn.Embedding(words, width), nn.Embedding(2, width)
        self.positions = nn.Embedding(512, width)
        self.register_buffer("position_ids", torch.arange(512).expand(1, -1), persistent=False)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(width, 12, 4 * width) for _ in range(layers))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor):
        positions = self.positions(self.position_ids[:, : input_ids.shape[1]])
        hidden = self.norm(self.words(input_ids) + self.types(token_type_ids) + positions)
        mask = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
        for layer in self.layers:
            hidden = layer(hidden, mask)
        wide = attention_mask.unsqueeze(-1).expand(hidden.size()).float()
        pooled = torch.sum(hidden * wide, 1) / torch.clamp(wide.sum(1), min=1e-9)
        return hidden, F.normalize(pooled, p=2, dim=1)


class VitBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Patches of 16 of a 112 x 112 picture, 6 blocks of 192, 100 classes."""

    def __init__(self, width: int = 192, blocks: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 50, width) * 0.02)
        self.blocks = nn.Sequential(*[VitBlock(width, 3) for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 100)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Separable(nn.Sequential):
    def __init__(self, inward: int, outward: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(inward, inward, 3, stride, 1, groups=inward, bias=False),
            nn.BatchNorm2d(inward),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inward, outward, 1, bias=False),
            nn.BatchNorm2d(outward),
            nn.ReLU6(inplace=True),
        )


class MobileNet(nn.Module):
    """Depthwise separable convolutions on pictures of 96 x 96, 100 classes."""

    def __init__(self) -> None:
        super().__init__()
        plan = [(32, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 256, 2), (256, 256, 1)]
        stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6(inplace=True))
        self.features = nn.Sequential(stem, *[Separable(*row) for row in plan])
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(256, 100))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features(image), 1).flatten(1))


def settle(network: nn.Module, seed: int) -> nn.Module:
    """Statistics and scales of batch norms as training would leave them: none of them is one or zero."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low, span in (
                (module.running_mean, -0.2, 0.4),
                (module.running_var, 0.5, 1.0),
                (module.weight.data, 0.8, 0.6),
                (module.bias.data, -0.1, 0.4),
            ):
                value.copy_(low + span * torch.rand(value.shape, generator=generator))
    return network.eval()


def export(network: nn.Module, inputs: dict[str, torch.Tensor], outputs: list[str], path: Path, axes: dict) -> None:
    arguments = tuple(inputs.values())
    names = {name: {axis: label for axis, label in axes.items() if axis < inputs[name].dim()} for name in inputs}
    torch.onnx.export(
        network,
        arguments,
        path.with_name(f"{path.name}-legacy.onnx"),
        input_names=list(inputs),
        output_names=outputs,
        opset_version=_LEGACY_OPSET,
        dynamic_axes=names | {name: {0: "batch"} for name in outputs},
        dynamo=False,
    )
    program = torch.onnx.export(
        network,
        arguments,
        input_names=list(inputs),
        output_names=outputs,
        opset_version=_DYNAMO_OPSET,
        dynamic_shapes=tuple({axis: torch.export.Dim(name) for axis, name in names[key].items()} for key in inputs),
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    program.save(path.with_name(f"{path.name}-dynamo.onnx"), external_data=False)


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(5)
    ids = torch.randint(0, 3000, (2, 9))
    text = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    export(settle(MiniLM(), 1), text, ["hidden", "sentence"], folder / "minilm", {0: "batch", 1: "sequence"})
    export(settle(Vit(), 2), {"image": torch.randn(2, 3, 112, 112)}, ["scores"], folder / "vit", {0: "batch"})
    picture = {"image": torch.randn(2, 3, 96, 96)}
    export(settle(MobileNet(), 3), picture, ["scores"], folder / "mobilenet", {0: "batch"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
