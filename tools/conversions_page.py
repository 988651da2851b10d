"""Writes docs/conversions.md: published models converted, and held against what their own frameworks gave for them.

    python tools/conversions_page.py > docs/conversions.md

The models are those of the tests (`SDKPACK_TEST_MODELS`, by default ../shared/models). Each is converted as a user
would, compared with its source by sdkpack itself, and then run by ONNX Runtime on stored inputs whose outputs the
source's framework gave on another day.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sdkpack.build.convert import Converted, convert
from sdkpack.build.runner import step_runner
from sdkpack.build.store import Store
from sdkpack.compare import compare
from sdkpack.documents.recipe import ModelSection
from sdkpack.errors import SdkpackError
from sdkpack.host.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path(os.environ.get("SDKPACK_TEST_MODELS") or ROOT.parent / "shared/models")

HEAD = """\
# Conversions, measured

Published models of several frameworks, converted by `sdkpack convert`. *Against the source* is what sdkpack measured
itself and keeps as evidence: the source run by its own framework (Caffe networks by OpenCV), the ONNX model by the
runtime named, on made inputs, the worst output. *Against stored outputs* is the ONNX model in ONNX Runtime, on real
inputs whose outputs the source's framework gave on another machine. Errors are max |a - b| / max |reference|; for 8-bit
outputs, the share of equal elements.

Written by `python tools/conversions_page.py`, on models that are not part of this repository.

"""


@dataclass(frozen=True, kw_only=True)
class Case:
    source: str
    references: str = ""
    """Of stored inputs and outputs, as a pattern."""
    files: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    stream: str = ""
    """The stored run is one of many calls; the input whose rows they get."""


def caffe(folder: str, name: str, prototxt: str, references: str, **more: Any) -> Case:
    return Case(
        source=f"{folder}/{name}.caffemodel", files={"prototxt": f"{folder}/{prototxt}.prototxt"},
        references=references, **more,
    )  # fmt: skip


FACE, PITCH, TINY, MOBILE = "face-ultralight", "basic-pitch", "mlperf-tiny", "mobilenet-tflite"
CASES = (
    caffe("squeezenet_v1.0-dc-caffe", "SqueezeNet_v1.0_decoded", "SqueezeNet_deploy", "ref/caffe_*.npz"),
    caffe("mtcnn-caffe", "det1", "det1", "ref/caffe_det1.npz", inputs={"data": {"shape": [1, 3, 96, 128]}}),
    caffe("mtcnn-caffe", "det2", "det2", "ref/caffe_det2.npz"),
    caffe("mtcnn-caffe", "det3", "det3", "ref/caffe_det3.npz"),
    caffe(f"{FACE}/caffe", "RFB-320", "RFB-320", "../ref/caffe_RFB*.npz"),
    caffe(f"{FACE}/caffe", "slim-320", "slim-320", "../ref/caffe_slim*.npz"),
    *(
        Case(source=f"{FACE}/tflite/version-{name}-320_without_postprocessing.tflite",
             references=f"../ref/tflite_version-{name}*.npz")
        for name in ("RFB", "slim")
    ),
    Case(source=f"{FACE}/pytorch/version-RFB-320.pth"),
    Case(source=f"{FACE}/pytorch/version-slim-320.pth"),
    Case(
        source="silero-vad/silero_vad.jit", references="ref/torchscript_silero_vad_stream200.npz",
        settings={"constants": {"sr": 16000}}, inputs={"x": {"shape": [1, 512]}}, stream="x",
    ),
    Case(source=f"{PITCH}/nmp", references="ref/tf_nmp.npz"),
    Case(source=f"{PITCH}/nmp.tflite", references="ref/tflite_nmp.npz"),
    Case(source=f"{TINY}/kws/kws_ref_model", references="../ref/tf_kws.npz"),
    Case(source=f"{TINY}/kws/kws_ref_model_float32.tflite", references="../ref/tflite_kws_float32.npz"),
    Case(source=f"{TINY}/kws/kws_ref_model.tflite", references="../ref/tflite_kws_int8.npz"),
    Case(source=f"{TINY}/resnet8/pretrainedResnet.h5", references="../ref/keras_resnet8.npz"),
    Case(source=f"{TINY}/resnet8/pretrainedResnet.tflite", references="../ref/tflite_resnet8_float.npz"),
    Case(source=f"{TINY}/resnet8/pretrainedResnet_quant.tflite", references="../ref/tflite_resnet8_int8.npz"),
    Case(source=f"{MOBILE}/mobilenet_v1_0.25_128_quant.tflite", references="ref/tflite_mobilenet_v1*.npz"),
    Case(source=f"{MOBILE}/mobilenet_v2_1.0_224_quant.tflite", references="ref/tflite_mobilenet_v2*.npz"),
)  # fmt: skip


def main() -> int:
    if not MODELS.is_dir():
        sys.exit(f"no models at {MODELS}; name their folder in SDKPACK_TEST_MODELS")
    rows = ["| model | converter | opset | against the source | run by | against stored outputs |", "| --- " * 6 + "|"]
    refused = []
    with tempfile.TemporaryDirectory() as folder, Store() as store, step_runner(store) as runner:
        registry = Registry.scan()
        for number, case in enumerate(CASES):
            print(case.source, file=sys.stderr, flush=True)
            try:
                made = _converted(case, Path(folder) / str(number), registry, runner)
            except SdkpackError as error:
                rows.append(f"| {case.source} | - | - | refused ({len(refused) + 1}) | - | - |")
                refused.append(f"{len(refused) + 1}. `{case.source}`: {error.message}.")
                continue
            [finding] = made.evidence
            rows.append(
                f"| {case.source} | {', '.join(made.converters)} | {made.opset} | {_evidence(finding)} "
                f"| {finding['where']['runtime']} | {_stored(case, made)} |"
            )
    print(HEAD + "\n".join(rows) + "\n\n## Refused\n\n" + "\n".join(refused))
    return 0


def _converted(case: Case, folder: Path, registry: Registry, runner: Any) -> Converted:
    folder.mkdir()
    given = {path: MODELS / path for path in case.files.values()}
    section = ModelSection.from_object(
        {
            "source": "x",
            "convert": {"files": dict(case.files), "with": dict(case.settings)},
            "inputs": dict(case.inputs),
        }
    )
    return convert(
        MODELS / case.source, registry=registry, runner=runner, section=section, given=given, out=folder / "model.onnx"
    )


def _evidence(finding: Mapping[str, Any]) -> str:
    if not finding["passed"]:
        return f"not proven: {finding['note']}"
    return f"{max(tensor['normalized_error'] for tensor in finding['tensors']):.1e}"


def _stored(case: Case, made: Converted) -> str:
    if not case.references:
        return "-"
    import onnxruntime

    session = onnxruntime.InferenceSession(str(made.files[0]))
    inputs = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    worst, equal = 0.0, 1.0
    for given, expected in _references(case):
        if case.stream:
            found = _streamed(session, case.stream, given, list(expected))
        else:
            # A reference with one tensor on a side may call it by another name.
            feeds = dict(zip(inputs, given.values(), strict=True)) if len(given) == 1 else given
            found = dict(zip(outputs, session.run(outputs, feeds), strict=True))
        wanted = expected if len(expected) > 1 else dict(zip(outputs, expected.values(), strict=False))
        for name, reference in wanted.items():
            array = found[name].reshape(reference.shape)
            worst = max(worst, compare(array, reference).normalized_error)
            if reference.dtype.kind in "iu":
                equal = min(equal, float((array == reference).mean()))
                whole = True
            else:
                whole = False
    return f"{equal:.2%} equal" if whole else f"{worst:.1e}"


def _references(case: Case) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    base = (MODELS / case.source).parent
    pattern = Path(case.references)
    for path in sorted((base / pattern.parent).resolve().glob(pattern.name)):
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name.replace("|", "/"): archive[name] for name in archive.files if name != "meta"}
        inputs = {name[3:]: value for name, value in arrays.items() if name.startswith("in/")}
        yield inputs, {name[4:]: value for name, value in arrays.items() if name.startswith("out/")}


def _streamed(session: Any, name: str, given: Mapping[str, Any], outputs: list[str]) -> dict[str, Any]:
    """Call after call, what the model keeps handed on."""
    chunks = next(iter(given.values()))
    states = {one.name: np.zeros(one.shape, np.float32) for one in session.get_inputs() if one.name != name}
    rows = []
    names = [one.name for one in session.get_outputs()]
    for chunk in chunks.reshape(-1, 512):
        found = dict(zip(names, session.run(names, {name: chunk[None], **states}), strict=True))
        states = {state: found[f"{state}_next"] for state in states}
        rows.append(found[names[0]].ravel())
    return {outputs[0]: np.concatenate(rows), names[0]: np.concatenate(rows)}


if __name__ == "__main__":
    sys.exit(main())
