"""The rows that the plugin brings, without a toolchain."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sdkpack_tensorflow.params import KerasParams, SavedModelParams, TfliteParams

from sdkpack.host.registry import Registry


def test_four_formats_share_one_environment() -> None:
    rows = Registry.of_modules(["sdkpack_tensorflow.plugin"]).converters()
    assert sorted(row.info.name for row in rows) == [
        "tensorflow.h5",
        "tensorflow.keras",
        "tensorflow.saved-model",
        "tensorflow.tflite",
    ]
    assert len({row.info.half.environment for row in rows}) == 1
    assert all(row.info.half.isolation == "environment" for row in rows)
    assert all("evaluate" in row.info.capabilities for row in rows)
    # Only Keras files can bring code that could run.
    assert sorted(row.info.name for row in rows if "code" in row.info.capabilities) == [
        "tensorflow.h5",
        "tensorflow.keras",
    ]


def test_the_descriptors_import_no_toolchain() -> None:
    code = (
        "import sys, sdkpack_tensorflow.plugin as p; p.sdkpack_converters();"
        "print(sorted({'tensorflow', 'numpy', 'onnx', 'keras'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", [SavedModelParams, KerasParams, TfliteParams])
def test_settings_are_checked(kind: type) -> None:
    with pytest.raises(ValueError, match="names, each once"):
        kind(outputs=("a", "a"))
    with pytest.raises(ValueError, match="names, each once"):
        kind(inputs_as_nchw=("",))


def test_a_signature_has_a_name() -> None:
    with pytest.raises(ValueError, match="signature"):
        SavedModelParams(signature="")
