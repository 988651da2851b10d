"""Keeps every graph's outputs its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["alias_outer_outputs"]


def alias_outer_outputs(model: ir.Model) -> int:
    """Gives a branch that returns a value of the graph around it a copy to return; onnxruntime refuses it otherwise.

    onnx-ir's identity elimination and constant folding make such branches.

    Returns:
        How many copies there are.
    """
    import onnx_ir as ir

    count = 0
    roots: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for root in roots:
        for graph in root.subgraphs():
            for place, output in enumerate(graph.outputs):
                producer = output.producer()
                own = producer.graph is graph if producer is not None else output in graph.initializers.values()
                if own or output in graph.inputs:
                    continue
                copy = ir.node("Identity", inputs=[output])
                copy.outputs[0].name = f"{output.name}_copy_{count}"
                copy.outputs[0].shape, copy.outputs[0].type = output.shape, output.type
                graph.append(copy)
                graph.outputs[place] = copy.outputs[0]
                count += 1
    return count
