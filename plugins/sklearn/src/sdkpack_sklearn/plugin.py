"""The rows of this plugin: one for each format. Imports no toolchain."""

from __future__ import annotations

from typing import Final

from sdkpack.plugin import ConverterInfo, EnvironmentSpec, Half, Magic, hookimpl
from sdkpack_sklearn.params import LightGBMParams, SklearnParams, XGBoostParams

__all__ = ["ENVIRONMENT", "SDKPACK_API", "sdkpack_converters"]

SDKPACK_API: Final = (1, 0)

ENVIRONMENT: Final = EnvironmentSpec(
    requirements=(
        "joblib==1.6.0",
        "lightgbm==4.7.0",
        "numpy==2.4.6",
        "onnx==1.23.2",
        # Pickles of models that were trained on data frames name its classes, and such models take nothing else.
        "pandas==3.1.1",
        "scikit-learn==1.9.1",
        "skl2onnx==1.20.0",
        "skops==0.16.0",
        # The same module as the distribution xgboost, without 550 MB of libraries for graphics cards.
        "xgboost-cpu==3.2.0",
    ),
    smoke_test=(
        "import joblib, lightgbm, pandas, skl2onnx, sklearn.ensemble, skops.io, xgboost\n"
        "from sklearn.linear_model import LinearRegression\n"
        "import numpy as np\n"
        "skl2onnx.to_onnx(LinearRegression().fit(np.eye(2), [0, 1]), np.eye(2, dtype=np.float32))\n"
    ),
    size_bytes=500 << 20,
)

_MEMORY_BYTES: Final = 8 << 30
_DISK_BYTES: Final = 4 << 30


def _half(load: str) -> Half:
    return Half(
        load=f"sdkpack_sklearn.{load}", isolation="environment", environment=ENVIRONMENT,
        memory_limit_bytes=_MEMORY_BYTES, disk_limit_bytes=_DISK_BYTES,
    )  # fmt: skip


@hookimpl
def sdkpack_converters() -> list[ConverterInfo]:
    return [
        ConverterInfo(
            name="sklearn.pickle",
            summary="scikit-learn models saved by joblib or pickle: code, taken only where the author allows it.",
            params=SklearnParams,
            capabilities=("sniff", "evaluate", "code"),
            half=_half("pickled:PickleConverter"),
            reads=("application/vnd.sklearn.pickle",),
            magics=tuple(Magic(content=bytes((0x80, protocol))) for protocol in range(2, 6)),
            suffixes=(".joblib", ".pickle", ".pkl"),
        ),
        ConverterInfo(
            name="sklearn.skops",
            summary="scikit-learn models saved by skops, which are data as far as their types are known.",
            params=SklearnParams,
            capabilities=("sniff", "evaluate", "code"),
            half=_half("skopsfile:SkopsConverter"),
            reads=("application/vnd.skops",),
            members=("schema.json",),
            suffixes=(".skops",),
        ),
        ConverterInfo(
            name="xgboost",
            summary="XGBoost models in its own JSON or UBJSON.",
            params=XGBoostParams,
            capabilities=("sniff", "evaluate"),
            half=_half("xgb:XGBoostConverter"),
            reads=("application/vnd.xgboost.model",),
            magics=(Magic(content=b'{"learner":'), Magic(content=b"{L\0\0\0\0\0\0\0\x07learner")),
            suffixes=(".json", ".ubj"),
        ),
        ConverterInfo(
            name="lightgbm",
            summary="LightGBM models in its own text format.",
            params=LightGBMParams,
            capabilities=("sniff", "evaluate"),
            half=_half("lgbm:LightGBMConverter"),
            reads=("application/vnd.lightgbm.model",),
            magics=(Magic(content=b"tree\nversion="),),
            suffixes=(".json", ".lgb"),
        ),
    ]
