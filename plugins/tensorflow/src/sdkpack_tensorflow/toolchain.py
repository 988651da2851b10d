"""Loads TensorFlow without its chatter, and turns its exceptions into errors that say what is wrong."""

from __future__ import annotations

import logging
import os
import struct
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Final

from sdkpack.errors import ModelError

__all__ = ["FAULTS", "VERSIONED", "fingerprint", "load_tensorflow", "read_safely", "tools"]

VERSIONED: Final = ("tensorflow", "keras", "tf_keras", "tf2onnx", "onnx", "numpy", "protobuf")

_MAX_LINE: Final = 300

# What TensorFlow, Keras, h5py, protobuf and tf2onnx raise for files that they cannot make sense of. A bug of this
# plugin that raises one of them is told as a fault of the model; the log has the traceback.
FAULTS: Final = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, AssertionError, NotImplementedError,
    OSError, ImportError, SyntaxError, OverflowError, RecursionError, UnicodeError, EOFError, struct.error,
    zipfile.BadZipFile,
)  # fmt: skip


def fingerprint() -> str:
    """What the result depends on beside the source."""
    return ", ".join(f"{name} {version(name)}" for name in VERSIONED)


def tools(*names: str) -> dict[str, str]:
    """Versions for the evidence."""
    return {name: version(name) for name in names}


def load_tensorflow() -> Any:
    """Imports TensorFlow for the processor alone, with as few words as it lets itself be asked for.

    Deterministic operators: the same file has to become the same bytes, and an evaluation may be made twice to see
    whether the source is deterministic.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    warnings.simplefilter("ignore")
    import tensorflow as tf

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    tf.config.experimental.enable_op_determinism()
    return tf


@contextmanager
def read_safely(what: str, hint: str = "", *, log: Any = None) -> Iterator[None]:
    """Everything that a library may raise over a bad file becomes a ModelError.

    Args:
        what: the beginning of the message: `'net.h5' cannot be read as a Keras model`.
        hint: the next step.
        log: gets the traceback.

    Raises:
        ModelError: the library raised something.
    """
    from google.protobuf.message import Error as ProtobufError
    from tensorflow.errors import OpError

    try:
        yield
    except (*FAULTS, OpError, ProtobufError) as error:
        if log is not None:
            log.info("%s", what, exc_info=error)
        raise ModelError(f"{what}: {_first_line(error)}", hint=hint) from error


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "message", "") or error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    if len(lines) > 1 and line.endswith(":"):
        line = f"{line} {lines[1]}"
    return line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]}..."
