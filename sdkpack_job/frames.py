"""Messages between sdkpack and a runner in a process of its own.

    4 bytes   b"SDK1"
    8 bytes   length of the head, little-endian
    head      a JSON object; its `arrays` lists what follows as [name, dtype, [sizes]]
    arrays    their bytes, in C order and this machine's byte order, one after another

An array of strings has no bytes: its items are a fourth entry of its row. Nothing is pickled, and no array of objects
is made of bytes.
"""

import json
import re
import struct

MAGIC = b"SDK1"
_START = struct.Struct("<4sQ")
_DTYPE = re.compile(r"(bool|u?int[0-9]+|float[0-9][0-9a-z_]*|bfloat16|complex[0-9]+)")
_STRINGS = "OUST"


class FrameError(ValueError):
    """What came is no such message."""


def message(head, arrays):
    """The buffers that make up one message.

    Args:
        head: JSON.
        arrays: NumPy arrays, or what `numpy.asarray` takes, by name.
    Raises:
        TypeError: an array has no form here: it is one of objects.
    """
    described = [_described(name, array) for name, array in arrays.items()]
    content = json.dumps(dict(head, arrays=[row for row, _ in described])).encode()
    start = _START.pack(MAGIC, len(content)) + content
    return [start] + [buffer for _, buffer in described if buffer is not None]


def receive(read, longest):
    """Reads one message.

    Args:
        read: fills a buffer that it is given; raises EOFError where the other side has ended.
        longest: most bytes of a head.
    Returns:
        The head, and the arrays by name.
    Raises:
        FrameError: it is no message.
    """
    start = bytearray(_START.size)
    read(memoryview(start))
    magic, length = _START.unpack(bytes(start))
    if magic != MAGIC or length > longest:
        raise FrameError("no message begins like this: {!r}".format(bytes(start)))
    content = bytearray(length)
    read(memoryview(content))
    try:
        head = json.loads(content.decode("utf-8"))
        rows = head.pop("arrays")
        return head, {str(row[0]): _array(read, *row[1:]) for row in rows}
    except FrameError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, MemoryError) as error:
        raise FrameError("a message cannot be read: {}: {}".format(type(error).__name__, error)) from error


def _described(name, value):
    import numpy as np

    array = np.ascontiguousarray(value).reshape(np.shape(value))
    if array.dtype.kind in _STRINGS:
        items = array.ravel().tolist()
        if not all(isinstance(item, str) for item in items):
            raise TypeError("{!r} is an array of objects".format(name))
        return [name, "string", list(array.shape), items], None
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not _DTYPE.fullmatch(array.dtype.name):
        raise TypeError("{!r} is an array of {}".format(name, array.dtype))
    # By way of bytes: element types that NumPy lacks cannot be looked at as memory.
    buffer = memoryview(array.reshape(-1).view(np.uint8)) if array.nbytes else None
    return [name, array.dtype.name, list(array.shape)], buffer


def _array(read, dtype, shape, items=None):
    import numpy as np

    if not all(type(size) is int and size >= 0 for size in shape):
        raise FrameError("an array has the sizes {!r}".format(shape))
    if dtype == "string":
        if not all(isinstance(item, str) for item in items):
            raise FrameError("an array of strings holds something else")
        made = np.empty(len(items), dtype=object)
        made[:] = items
        return made.reshape(shape)
    made = np.empty(shape, _dtype(np, dtype))
    if made.nbytes:
        read(memoryview(made.reshape(-1).view(np.uint8)))
    return made


def _dtype(np, name):
    if not (isinstance(name, str) and _DTYPE.fullmatch(name)):
        raise FrameError("an array is of the unknown element type {!r}".format(name))
    try:
        return np.dtype(name)
    except TypeError:
        # Of the package that brings the small floats; its types are known by name once it is loaded.
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
