"""Cut: the part of a model's graph that the author wants."""

from __future__ import annotations

from sdkpack.build.context import BuildContext
from sdkpack.build.fingerprint import Fingerprints
from sdkpack.build.runner import Results, Step
from sdkpack.build.steps.compiling import model_input
from sdkpack.build.steps.declaring import Declared
from sdkpack.build.steps.importing import LIBRARIES, Imported, import_file
from sdkpack.build.steps.keys import plan_step
from sdkpack.build.store import Store, StoredResult
from sdkpack.documents.recipe import CutSection

__all__ = ["cut_step"]


def cut_step(
    model: str, section: CutSection, *, before: Step, declared: Declared, store: Store, fingerprints: Fingerprints
) -> Step:
    """The step that cuts one model.

    Args:
        model: its name.
        section: where to cut.
        before: the step whose result is cut: an import, or a conversion.
        declared: what the author says of the inputs, new ones among them.
        store: where the model is.
        fingerprints: of this build.
    """
    plan = plan_step(
        id=f"{model}/cut",
        kind="cut",
        plugin="sdkpack",
        fingerprint=fingerprints.core(*LIBRARIES),
        params={"inputs": list(section.inputs), "outputs": list(section.outputs)} | declared.as_json(),
        after=(before.plan,),
    )

    def work(results: Results, context: BuildContext) -> StoredResult:
        return _cut(model, Imported(results[before.id]), section, declared, store, context)

    return Step(plan=plan, work=work, after=(before.id,), cacheable=before.cacheable)


def _cut(
    model: str, whole: Imported, section: CutSection, declared: Declared, store: Store, context: BuildContext
) -> StoredResult:
    from sdkpack.model.cut import cut_model
    from sdkpack.model.load import load_model

    context.progress(None, "cutting the graph")
    folder = context.aside("whole")
    source = model_input(model, whole, store, folder)
    part = cut_model(load_model(source.path).proto, inputs=section.inputs, outputs=section.outputs)
    # Beside the whole model: external data is where it was.
    path = folder / "part.onnx"
    path.write_bytes(part.SerializeToString(deterministic=True))
    made = import_file(path, store, context, name=f"the cut of {model!r}")
    kept = {spec.name: spec for spec in (*whole.inputs, *whole.outputs)}
    data = declared.applied(made.data, kept.values())
    carried = {name: whole.result.data[name] for name in ("evidence", "format", "notes", "tools", "isolation")
               if name in whole.result.data}  # fmt: skip
    return StoredResult(files=made.files, data={**data, **carried})
