"""acmecc JOB: calibrates, quantises and writes a program. A program of its own: NumPy is all that it imports."""

import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np
from toolchain import arithmetic, program


def main(path):
    """Reads the job; everything it says goes to its output, which the plugin keeps as a log."""
    with open(path) as file:
        job = json.load(file)
    misbehave(job["crash"], job["program"])
    models, memory_bytes = {}, 0
    for model in job["models"]:
        models[model["name"]], used = quantised(model)
        memory_bytes += used
        print(f"acmecc: {model['name']}: {len(model['ops'])} operators, {used} bytes")
    program.write(job["program"], models, memory_bytes)


def quantised(model):
    """Scales from the samples, then integers."""
    with np.load(model["weights"]) as file:
        weights = {name: file[name].astype(np.float64) for name in file.files}
    scales, largest = calibrated(model, weights)
    arrays = {}
    for op in model["ops"]:
        if op["weights"]:
            arrays.update(quantised_weights(op, weights, scales[op["inputs"][0]]))
    used = sum(array.nbytes for array in arrays.values()) + largest
    keep = ("ops", "outputs", "normalise")
    return {**{key: model[key] for key in keep}, "scales": scales, "arrays": arrays}, used


def calibrated(model, weights):
    """A scale for every tensor: its greatest magnitude over the samples is 127."""
    peaks, largest = {}, 0
    for path in model["samples"]:
        with np.load(path) as file:
            values = {name: file[name].astype(np.float64) for name in model["inputs"]}
        for op in model["ops"]:
            taken = [values[name] for name in op["inputs"]]
            values[op["output"]] = arithmetic.compute(op, taken, [weights[name] for name in op["weights"]])
        for name, array in values.items():
            peaks[name] = max(peaks.get(name, 0.0), float(np.abs(array).max()))
            largest = max(largest, array.size)
    if model["normalise"]:  # every picture is possible, whatever the samples show
        ends = [program.normalised(np.full((1, 1, 3), byte), model["normalise"]) for byte in (0, 255)]
        peaks[model["inputs"][0]] = max(float(np.abs(end).max()) for end in ends)
    scales = {name: peak / 127 or 1.0 for name, peak in peaks.items()}
    for op in model["ops"]:
        if arithmetic.keeps_scale(op["op"]):
            scales[op["output"]] = scales[op["inputs"][0]]
    return scales, largest


def quantised_weights(op, weights, input_scale):
    """Eight bits with a scale for each output channel; the bias has the scale of the sums."""
    name = op["weights"][0]
    rows = arithmetic.channels_last(op["op"], weights[name], op["attributes"])
    scale = np.abs(rows).reshape(rows.shape[0], -1).max(axis=1) / 127
    scale[scale == 0] = 1.0
    whole = np.rint(rows / scale.reshape(-1, *[1] * (rows.ndim - 1)))
    arrays = {
        name: np.ascontiguousarray(arithmetic.channels_last(op["op"], whole, op["attributes"])).astype(np.int8),
        name + "/scale": scale,
    }
    if len(op["weights"]) > 1:
        arrays[op["weights"][1]] = np.rint(weights[op["weights"][1]] / (scale * input_scale)).astype(np.int32)
    return arrays


def misbehave(how, path):
    """What toolchains do on a bad day."""
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        time.sleep(3600)
    if how == "garbage":
        with open(path, "wb") as out:
            out.write(b"\0" * 100)
        sys.exit(0)
    if how == "forget":
        sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
