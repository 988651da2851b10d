"""The conformance kit: what every plugin must hold to, as test classes to subclass. `pip install sdkpack[testing]`.

```python
from sdkpack.testing import RuntimeConformance


class TestNpu2(RuntimeConformance):
    runtime = "acme.npu2"
```

The same for each other kind of plugin: `ConverterConformance` (with `SourceCase`), `OptimizerConformance`,
`CompressorConformance`, `OperatorConformance`, `ExporterConformance`, `KeyProviderConformance`. A test that a plugin's
own words make pointless is skipped for that reason, never because of a name. Needs pytest; the operator coverage in
`sdkpack.testing.coverage` does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdkpack.testing.compressor import CompressorConformance
    from sdkpack.testing.converter import ConverterConformance, SourceCase
    from sdkpack.testing.exporter import ExporterConformance
    from sdkpack.testing.keys import KeyProviderConformance
    from sdkpack.testing.operator import OperatorConformance
    from sdkpack.testing.optimizer import OptimizerConformance
    from sdkpack.testing.runtime import RuntimeConformance

__all__ = [
    "CompressorConformance",
    "ConverterConformance",
    "ExporterConformance",
    "KeyProviderConformance",
    "OperatorConformance",
    "OptimizerConformance",
    "RuntimeConformance",
    "SourceCase",
]

_MODULES = {
    "CompressorConformance": "compressor",
    "ConverterConformance": "converter",
    "ExporterConformance": "exporter",
    "KeyProviderConformance": "keys",
    "OperatorConformance": "operator",
    "OptimizerConformance": "optimizer",
    "RuntimeConformance": "runtime",
    "SourceCase": "converter",
}


def __getattr__(name: str) -> Any:
    # Looked up at first use: the coverage must be importable without pytest.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"sdkpack.testing.{_MODULES[name]}"), name)
