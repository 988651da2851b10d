"""Makes one layer of two where the result is the same: fewer layers for the toolchain behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sdkpack_caffe.writer.draft import Blob, Draft, DraftLayer

__all__ = ["tidy"]

_PRODUCTS: Final = ("Convolution", "Deconvolution", "InnerProduct")


def tidy(draft: Draft, ends: Sequence[Blob]) -> list[Blob]:
    """Joins neighbours until nothing changes; returns the outputs, which may be other blobs now."""
    work = _Work(draft, list(ends))
    while any(work.sweep(merge) for merge in (_drop_empty, _join)):
        pass
    return work.ends


class _Work:
    """The layers with an index of who takes what."""

    def __init__(self, draft: Draft, ends: list[Blob]) -> None:
        self.draft, self.ends = draft, ends

    def sweep(self, merge: Callable[[_Work, DraftLayer, DraftLayer | None], bool]) -> bool:
        """One pass over all layers with what makes their only bottom, where nothing else takes it."""
        changed = False
        makers: dict[int, DraftLayer] = {}
        takers: dict[int, int] = {}
        for layer in self.draft.layers:
            for blob in layer.bottoms:
                takers[id(blob)] = takers.get(id(blob), 0) + 1
        for blob in self.ends:
            takers[id(blob)] = takers.get(id(blob), 0) + 1
        for layer in list(self.draft.layers):
            before = None
            if len(layer.bottoms) == 1 and takers[id(layer.bottoms[0])] == 1:
                before = makers.get(id(layer.bottoms[0]))
            if merge(self, layer, before if before is not None and len(before.tops) == 1 else None):
                changed = True
            makers |= {id(top): layer for top in layer.tops}
        self.draft.layers[:] = [layer for layer in self.draft.layers if layer.type]
        return changed

    def replace(self, old: Blob, new: Blob) -> None:
        for layer in self.draft.layers:
            layer.bottoms[:] = [new if blob is old else blob for blob in layer.bottoms]
        self.ends[:] = [new if blob is old else blob for blob in self.ends]


def _remove(layer: DraftLayer) -> None:
    """Marks a layer as gone."""
    layer.type, layer.bottoms, layer.tops = "", [], []


def _drop_empty(work: _Work, layer: DraftLayer, _: DraftLayer | None) -> bool:
    """Layers that change nothing: a Power of 1 * x + 0, a shape or an order that is there already."""
    if not layer.bottoms or len(layer.tops) != 1:
        return False
    bottom, top = layer.bottoms[0], layer.tops[0]
    empty = {
        "Power": not layer.settings.get("power_param"),
        "Permute": list(layer.settings.get("permute_param", {}).get("order", [])) == list(range(len(top.shape))),
        "Reshape": bottom.shape == top.shape,
        "Flatten": bottom.shape == top.shape,
    }.get(layer.type, False)
    if empty:
        _remove(layer)
        work.replace(top, bottom)
    return empty


def _join(work: _Work, layer: DraftLayer, before: DraftLayer | None) -> bool:
    if before is None or not before.type:
        return False
    joined = _JOINS.get((before.type, layer.type))
    if joined is None and before.type in _PRODUCTS and layer.type in ("Scale", "Power"):
        joined = _bias
    return joined(before, layer) if joined is not None else False


def _take(before: DraftLayer, layer: DraftLayer) -> None:
    """The first layer does what both did."""
    before.tops[:] = layer.tops
    _remove(layer)


def _powers(before: DraftLayer, layer: DraftLayer) -> bool:
    """a * (s * x + t) + b, with a power on the outside alone."""
    usual = {"scale": 1.0, "shift": 0.0, "power": 1.0}
    first = usual | before.settings.get("power_param", {})
    second = usual | layer.settings.get("power_param", {})
    # A constant is better left alone, and a factor of 0 hides infinities.
    if first["scale"] == 0 or second["scale"] == 0:
        return False
    if first["power"] != 1:
        # A factor goes below the power: OpenCV joins two such layers by itself, and wrongly.
        if second["shift"] != 0 or second["power"] != 1 or second["scale"] < 0 or first["power"] == 0:
            return False
        inner = second["scale"] ** (1 / first["power"])
        first, second = first | {"power": 1.0}, usual | {"scale": 1.0, "power": first["power"]}
        first |= {"scale": first["scale"] * inner, "shift": first["shift"] * inner}
    new = {"scale": first["scale"] * second["scale"], "shift": first["shift"] * second["scale"] + second["shift"],
           "power": second["power"]}  # fmt: skip
    before.settings["power_param"] = {name: value for name, value in new.items() if value != usual[name]}
    _take(before, layer)
    return True


def _shapes(before: DraftLayer, layer: DraftLayer) -> bool:
    source, shape = before.bottoms[0].shape, layer.tops[0].shape
    keep = bool(source and shape and source[0] == shape[0])
    before.type = "Reshape"
    before.settings.clear()
    before.settings["reshape_param"] = {"shape": {"dim": [0 if keep and not at else s for at, s in enumerate(shape)]}}
    if keep and len(shape) == 2 and len(source) > 2:
        before.type = "Flatten"
        before.settings.clear()
    _take(before, layer)
    return True


def _orders(before: DraftLayer, layer: DraftLayer) -> bool:
    first, second = (part.settings["permute_param"]["order"] for part in (before, layer))
    before.settings["permute_param"] = {"order": [first[axis] for axis in second]}
    _take(before, layer)
    return True


def _scales(before: DraftLayer, layer: DraftLayer) -> bool:
    """A factor and then a summand."""
    first, second = (part.settings.get("scale_param", {}) for part in (before, layer))
    places = [(part.get("axis", 1), part.get("num_axes", 1)) for part in (first, second)]
    if len(before.bottoms) != 1 or first.get("bias_term") or places[0] != places[1] or not _only_adds(layer):
        return False
    before.settings["scale_param"] = {**first, "bias_term": True}
    before.weights.append(layer.weights[1])
    _take(before, layer)
    return True


def _only_adds(layer: DraftLayer) -> bool:
    return len(layer.weights) == 2 and bool((layer.weights[0] == 1).all())


def _bias(before: DraftLayer, layer: DraftLayer) -> bool:
    """A product without a bias and what is added for each of its outputs."""
    import numpy as np

    key = "inner_product_param" if before.type == "InnerProduct" else "convolution_param"
    fields = before.settings[key]
    count = fields["num_output"]
    axis = fields.get("axis", 1)
    if fields.get("bias_term", True):
        return False
    if layer.type == "Power":
        own = layer.settings["power_param"]
        if set(own) != {"shift"}:
            return False
        bias = np.full(count, own["shift"], np.float32)
    else:
        own = layer.settings.get("scale_param", {})
        if not _only_adds(layer) or own.get("axis", 1) != axis or layer.weights[1].shape != (count,):
            return False
        bias = layer.weights[1]
    before.settings[key] = {name: value for name, value in fields.items() if name != "bias_term"}
    before.weights.append(bias)
    _take(before, layer)
    return True


_JOINS: Final[dict[tuple[str, str], Any]] = {
    ("Power", "Power"): _powers,
    ("Permute", "Permute"): _orders,
    ("Scale", "Scale"): _scales,
    **{(first, second): _shapes for first in ("Reshape", "Flatten") for second in ("Reshape", "Flatten")},
}
