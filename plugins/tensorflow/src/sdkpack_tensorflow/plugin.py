"""The TensorFlow plugin's rows, one a format. Imports no toolchain."""

from __future__ import annotations

from typing import Final

from sdkpack.plugin import ConverterInfo, EnvironmentSpec, Half, Magic, hookimpl
from sdkpack_tensorflow.params import KerasParams, SavedModelParams, TfliteParams

SDKPACK_API: Final = (1, 0)

# One environment for all formats. `tf_keras` reads what Keras 3 no longer does, and asks for `tensorflow` by that name:
# the smaller `tensorflow-cpu` would be installed beside it, not in its place.
ENVIRONMENT: Final = EnvironmentSpec(
    requirements=(
        "tensorflow==2.21.0", "keras==3.15.1", "tf_keras==2.21.0", "tf2onnx==1.17.0", "onnx==1.23.2", "h5py==3.14.0",
        "numpy==2.4.6", "protobuf==7.36.2", "flatbuffers==25.12.19", "ml_dtypes==0.6.0",
    ),
    smoke_test=(
        "import os\n"
        "os.environ.update(TF_CPP_MIN_LOG_LEVEL='3', CUDA_VISIBLE_DEVICES='-1')\n"
        "import h5py, keras, onnx, tensorflow, tf2onnx, tf_keras\n"
        "assert float(tensorflow.reduce_sum(tensorflow.ones((2, 2)))) == 4.0\n"
    ),
    size_bytes=2_300_000_000,
)  # fmt: skip

# TensorFlow reserves some 2 GB of address space before it has done anything, and a graph is held several times over.
_MEMORY_BYTES: Final = 16 << 30
_DISK_BYTES: Final = 8 << 30
_TIME_LIMIT_S: Final = 1800.0
# Most networks become the same bytes each time. Those with loops, and chains of reshapes, need not: tf2onnx rewrites
# them in the order of a set.
_DETERMINISTIC: Final = False


def _half(load: str) -> Half:
    return Half(
        load=load,
        isolation="environment",
        environment=ENVIRONMENT,
        memory_limit_bytes=_MEMORY_BYTES,
        disk_limit_bytes=_DISK_BYTES,
    )


@hookimpl
def sdkpack_converters() -> list[ConverterInfo]:
    return [
        ConverterInfo(
            name="tensorflow.saved-model",
            summary="TensorFlow SavedModel folders, also those that only TensorFlow 1's loader reads.",
            params=SavedModelParams,
            capabilities=("evaluate",),
            half=_half("sdkpack_tensorflow.saved_model:SavedModelConverter"),
            reads=("application/vnd.tensorflow.saved-model",),
            members=("saved_model.pb",),
            time_limit_s=_TIME_LIMIT_S,
            deterministic=_DETERMINISTIC,
        ),
        ConverterInfo(
            name="tensorflow.keras",
            summary="Keras 3 models in one .keras file.",
            params=KerasParams,
            capabilities=("evaluate", "code"),
            half=_half("sdkpack_tensorflow.keras_model:KerasConverter"),
            reads=("application/vnd.keras.v3",),
            members=("config.json", "metadata.json", "model.weights.h5"),
            suffixes=(".keras",),
            time_limit_s=_TIME_LIMIT_S,
            deterministic=_DETERMINISTIC,
        ),
        ConverterInfo(
            name="tensorflow.h5",
            summary="Keras models in one HDF5 file, as Keras 1 and 2 saved them.",
            params=KerasParams,
            capabilities=("evaluate", "code"),
            half=_half("sdkpack_tensorflow.keras_model:HdfConverter"),
            reads=("application/vnd.keras.hdf5",),
            magics=(Magic(content=b"\x89HDF\r\n\x1a\n"),),
            suffixes=(".h5", ".hdf5"),
            time_limit_s=_TIME_LIMIT_S,
            deterministic=_DETERMINISTIC,
        ),
        ConverterInfo(
            name="tensorflow.tflite",
            summary="TensorFlow Lite (LiteRT) models, float and quantised.",
            params=TfliteParams,
            capabilities=("evaluate",),
            half=_half("sdkpack_tensorflow.tflite:TfliteConverter"),
            reads=("application/vnd.tensorflow.lite",),
            magics=(Magic(content=b"TFL3", offset=4),),
            suffixes=(".tflite",),
            time_limit_s=_TIME_LIMIT_S,
            deterministic=_DETERMINISTIC,
        ),
    ]
