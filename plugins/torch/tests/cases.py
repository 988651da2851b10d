"""Converts many sources in one process of the plugin's environment: `python cases.py CASES.json`.

What a converter refuses is refused the same way in a job of its own; a process for each of dozens of refusals would
load torch dozens of times. Each case is {converter, source, files, inputs, samples, params, opset, allow_code};
the answer is [type, message, hint] of each, with an empty type where it was converted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from pathlib import Path


def main() -> None:
    cases = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, cases["job"])
    from sdkpack_job.packages import expose

    expose(cases["packages"])
    sys.stdout.write("\n" + json.dumps([attempt(case) for case in cases["cases"]]))


class Context:
    seed = 0
    log = logging.getLogger("cases")

    def __init__(self, work: Path) -> None:
        self.work = work

    def progress(self, fraction: float | None, text: str = "") -> None:
        sys.stderr.write(f"{text}\n")


def attempt(case: dict) -> list[str]:  # type: ignore[type-arg]
    from importlib import import_module

    from sdkpack_torch import params

    from sdkpack.plugin import ConvertRequest
    from sdkpack.types import TensorSpec

    module, converter, kind = {
        "torch.export": ("program", "ProgramConverter", "ProgramParams"),
        "torch.script": ("script", "ScriptConverter", "ScriptParams"),
        "torch.state-dict": ("module", "ModuleConverter", "ModuleParams"),
    }[case["converter"]]
    request = ConvertRequest(
        name="net", source=Path(case["source"]), opset=case.get("opset"), allow_code=case.get("allow_code", False),
        files={name: Path(path) for name, path in case.get("files", {}).items()},
        params=getattr(params, kind)(**case.get("params", {})),
        inputs=tuple(
            TensorSpec(name=name, dtype=dtype, shape=tuple(shape))
            for name, (dtype, shape) in case.get("inputs", {}).items()
        ),
    )  # fmt: skip
    known = set(sys.modules)
    try:
        with tempfile.TemporaryDirectory() as work:
            os.chdir(work)
            getattr(import_module(f"sdkpack_torch.{module}"), converter)().convert(request, Context(Path(work)))
    except Exception as error:
        return [type(error).__name__, str(getattr(error, "message", error)), str(getattr(error, "hint", ""))]
    finally:
        os.chdir("/")
        # The author's code is imported by name, by each job once.
        for name in {"plain", "detectors"} & (set(sys.modules) - known):
            del sys.modules[name]
    return ["", "", ""]


if __name__ == "__main__":
    main()
