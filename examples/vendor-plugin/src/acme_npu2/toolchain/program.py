"""The program file: several models, their 8-bit weights, scales. And the driver that runs one.

`ACMENPU2`, the header's length in 8 bytes, a JSON header, then the weights at 64-byte steps.
"""

import hashlib
import json

import numpy as np

from . import arithmetic

MAGIC = b"ACMENPU2"


def write(path, models, memory_bytes):
    """Models by name: ops, scales, weights as arrays."""
    blob, facts = bytearray(), {}
    for name, model in sorted(models.items()):
        places = {}
        for key, array in sorted(model.pop("arrays").items()):
            blob += bytes(-len(blob) % 64)
            places[key] = [str(array.dtype), list(array.shape), len(blob), array.nbytes]
            blob += array.tobytes()
        facts[name] = {**model, "arrays": places}
    digest = hashlib.sha256(blob).hexdigest()
    header = json.dumps({"models": facts, "memory_bytes": memory_bytes, "sha256": digest}, sort_keys=True).encode()
    with open(path, "wb") as out:
        out.write(MAGIC + len(header).to_bytes(8, "little") + header + bytes(blob))


def header_of(content):
    """The header of a whole program file; a ValueError where it is none."""
    size = int.from_bytes(content[8:16], "little")
    if content[:8] != MAGIC or 16 + size > len(content):
        raise ValueError("not an NPU2 program, or cut")
    header = json.loads(content[16 : 16 + size])
    if hashlib.sha256(content[16 + size :]).hexdigest() != header["sha256"]:
        raise ValueError("the weights of the program are damaged")
    return header


def load(path, entry):
    """The model of that name, and what all models of the file need."""
    with open(path, "rb") as file:
        content = file.read()
    header = header_of(content)
    if entry not in header["models"]:
        raise ValueError(f"the program has no model {entry!r}, only {', '.join(header['models'])}")
    base = 16 + int.from_bytes(content[8:16], "little")
    facts = header["models"][entry]
    arrays = {
        key: np.frombuffer(content, dtype, count=int(np.prod(shape)), offset=base + at).reshape(shape)
        for key, (dtype, shape, at, _) in facts["arrays"].items()
    }
    return Model(facts, arrays), header["memory_bytes"]


class Model:
    """One model on the device."""

    def __init__(self, facts, arrays):
        self.facts, self.arrays = facts, arrays

    def run(self, inputs, *, board):
        """float32 outputs of the device part."""
        scales = self.facts["scales"]
        values = {}
        for name, array in inputs.items():
            real = normalised(array, self.facts["normalise"]) if self.facts["normalise"] else array.astype(np.float64)
            values[name] = arithmetic.requantised(real, 1 / scales[name], board=board)
        for op in self.facts["ops"]:
            values[op["output"]] = self._step(op, values, scales, board)
        return {name: (values[name] * scales[name]).astype(np.float32) for name in self.facts["outputs"]}

    def _step(self, op, values, scales, board):
        taken = [values[name] for name in op["inputs"]]
        out = scales[op["output"]]
        if arithmetic.keeps_scale(op["op"]):
            return arithmetic.compute(op, taken, [])
        if op["op"] == "Add":
            taken = [value * scales[name] for name, value in zip(op["inputs"], taken)]
            return arithmetic.requantised(arithmetic.compute(op, taken, []), 1 / out, board=board)
        if not op["weights"]:
            sums = arithmetic.compute(op, taken, [])
            return arithmetic.requantised(sums, scales[op["inputs"][0]] / out, board=board)
        weights = [self.arrays[name].astype(np.float64) for name in op["weights"]]
        factor = scales[op["inputs"][0]] * self.arrays[op["weights"][0] + "/scale"] / out
        factor = factor[None, :, None, None] if op["op"] == "Conv" else factor[None, :]
        return arithmetic.requantised(arithmetic.compute(op, taken, weights), factor, board=board)


def normalised(image, table):
    """uint8 HWC to NCHW, in the units of the model's input."""
    pixels = image.astype(np.float64) * table["scale"]
    return ((pixels - table["mean"]) / table["std"]).transpose(2, 0, 1)[None]
