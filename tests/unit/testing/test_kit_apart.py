"""The conformance kit on tools that work in environments of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sdkpack.host.registry import Registry
from sdkpack.plugin import RuntimeInfo
from sdkpack.testing import ConverterConformance, RuntimeConformance, SourceCase

REGISTRY = Registry.of_modules(["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", "tests.unit.build.converters"])


@pytest.fixture(autouse=True, scope="module")
def _environments(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDKPACK_ENVIRONMENTS", str(tmp_path_factory.mktemp("environments")))
        yield


class TestSizes(ConverterConformance):
    converter = "test.sizes"
    registry = REGISTRY

    def sources(self, folder: Path) -> Sequence[SourceCase]:
        (folder / "net.sizes").write_text("SIZES 3")
        return [SourceCase(source=folder / "net.sizes")]


class Apart(RuntimeConformance):
    runtime = "test.apart"
    registry = REGISTRY
    samples_per_model = 0


@pytest.mark.parametrize(
    "name",
    [
        "test_halves_keep_their_contracts",
        "test_probe_answers_the_same_twice",
        "test_numbers_agree_with_the_reference",
        "test_same_input_gives_the_same_bytes",
        "test_compiling_changes_none_of_its_inputs",
        "test_cancel_ends_it",
        "test_runs_are_repeatable_and_leave_the_inputs_alone",
    ],
)
def test_a_compiler_works_where_it_says(name: str, tmp_path: Path) -> None:
    """Without onnx in its environment it cannot do all that a conforming compiler does; what it does, it does apart."""
    test = Apart()
    assert type(test.compiler()).__name__ == "RemoteTool"
    getattr(test, name)(*([] if "probe" in name or "contracts" in name else [tmp_path]))


@pytest.mark.parametrize(
    "name", ["test_writes_only_in_its_work_folder_and_opens_no_socket", "test_it_compiles_the_same_as_a_job"]
)
def test_what_is_enforced_is_not_tried(name: str, tmp_path: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match="apart"):
        getattr(Apart(), name)(tmp_path)


def test_opsets_that_a_descriptor_names_are_tried(tmp_path: Path) -> None:
    """The oldest and the newest compile and run; what is outside is refused before the compiler is asked."""
    from dataclasses import replace

    state = next(state for state in REGISTRY.plugins if state.module == "sdkpack_onnxruntime.plugin")
    rows = tuple(replace(row, opsets=(9, 15)) if isinstance(row, RuntimeInfo) else row for row in state.rows)
    others = [other for other in REGISTRY.plugins if other is not state]

    class Narrow(RuntimeConformance):
        runtime = "onnxruntime"
        registry = Registry((*others, replace(state, rows=rows)))
        samples_per_model = 0

    test = Narrow()
    assert {entry.version for model in test.models().values() for entry in model.opset_import} == {15}
    test.test_it_takes_the_opsets_that_it_says(tmp_path)
    with pytest.raises(pytest.skip.Exception, match="does not say which opsets"):
        Apart().test_it_takes_the_opsets_that_it_says(tmp_path)
