"""ONNX files: a graph written node by node, and what every model of this plugin has in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sdkpack.errors import ModelError

__all__ = ["BATCH", "NEWEST_OPSET", "OLDEST_OPSET", "GraphSink", "opset_for", "save_model"]

BATCH: Final = "N"
"""The name of the open first dimension."""
OLDEST_OPSET: Final = 13
NEWEST_OPSET: Final = 21
_DEFAULT_OPSET: Final = 18
"""The oldest one for which skl2onnx 1.20.0 converts all that it can."""
_ML_OPSET: Final = 3


@dataclass(slots=True)
class GraphSink:
    """Collects the nodes of one graph; every node gets a name."""

    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)

    def node(self, operator: str, inputs: Sequence[str], output: str = "", domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], f"node_{name}", domain=domain, **attributes))
        return name

    def constant(self, values: Any) -> str:
        import numpy as np
        from onnx import helper, numpy_helper

        name = f"constant_{len(self.initializers)}"
        if values.dtype.kind in "OU":
            text: Any = [str(value).encode() for value in values.ravel()]
            self.initializers.append(helper.make_tensor(name, 8, values.shape, text))
        else:
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def model(self, name: str, opset: int, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """The ONNX model; `inputs` and `outputs` are ValueInfoProtos."""
        from onnx import helper

        graph = helper.make_graph(self.nodes, name, list(inputs), list(outputs), self.initializers)
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
        return helper.make_model(graph, opset_imports=imports, producer_name="sdkpack-sklearn")


def opset_for(asked: int | None) -> int:
    """The version of ONNX's operators to write.

    Raises:
        ModelError: the targets take none that can be written.
    """
    if asked is not None and asked < OLDEST_OPSET:
        raise ModelError(
            f"the targets take opset {asked}, this model needs {OLDEST_OPSET} or newer",
            hint="drop the target with the oldest opset, or use a newer version of its runtime",
        )
    return min(asked or _DEFAULT_OPSET, NEWEST_OPSET)


def save_model(model: Any, path: Path, metadata: Mapping[str, object]) -> None:
    """Writes `model` with facts for people and pipelines, after checking it.

    Raises:
        ModelError: it uses operators that ONNX does not have.
    """
    import onnx
    from onnx import helper

    known = {"", "ai.onnx", "ai.onnx.ml", *(function.domain for function in model.functions)}
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in known})
    if foreign:
        raise ModelError(
            f"it needs operators that only one runtime has: {', '.join(foreign)}",
            hint="replace the estimator that needs them; words are split and counted outside of the model",
        )
    for name, value in sorted(metadata.items()):
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value if isinstance(value, str) else json.dumps(value)
    # Functions of the model's own came with IR version 8.
    model.ir_version = max(8, helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True))
    onnx.checker.check_model(model)
    onnx.save(model, path)
