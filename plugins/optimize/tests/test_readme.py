"""The README says what the descriptors say."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from sdkpack_optimize.plugin import sdkpack_optimizers
from sdkpack_optimize.table import with_table

README = Path(__file__).parents[1] / "README.md"
CATEGORIES = {"constant-folding", "arithmetic", "dependency", "function", "fusion", "information"}


def test_the_table_of_passes_is_up_to_date() -> None:
    page = README.read_text()
    assert page == with_table(page), "run: python -m sdkpack_optimize.table plugins/optimize/README.md"


def test_every_category_has_a_pass() -> None:
    assert {info.category for info in sdkpack_optimizers()} == CATEGORIES


def test_each_pass_says_what_it_requires_and_ensures() -> None:
    for info in sdkpack_optimizers():
        module, _, name = info.half.load.partition(":")
        text = getattr(import_module(module), name).__doc__
        assert "Requires: " in text, info.name
        assert "Ensures: " in text, info.name


def test_the_order_is_one() -> None:
    rows = sdkpack_optimizers()
    assert [len(row.after) for row in rows] == list(range(len(rows)))
    assert rows[-1].name == "optimize.information"


def test_descriptors_load_no_toolchain() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from sdkpack_optimize.plugin import sdkpack_optimizers; sdkpack_optimizers();"
        "print([name for name in ('onnx', 'onnx_ir', 'onnxscript', 'onnxslim', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
