"""Damages model files and reads them: `python damage.py MODELS OUT.json`, by the environment's Python.

Each damaged file is read in a process of its own, since libraries may crash on it; OUT holds what came of each kind.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import convert_all

from sdkpack.errors import ModelError, StepError
from sdkpack.plugin import ConvertRequest

FILES = ("logistic/model.joblib", "skops/model.skops", "xgboost_best/model.json", "xgboost_rank_ndcg/model.ubj",
         "lightgbm_binary/model.txt")  # fmt: skip


def damaged(content: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    pick = random.Random(seed)
    yield "empty", b""
    yield "foreign", b"\x7fELF" + bytes(pick.randrange(256) for _ in range(400))
    for _ in range(12):
        yield "truncated", content[: pick.randrange(1, len(content) - 1)]
    for _ in range(24):
        place = pick.randrange(len(content))
        yield "flipped", content[:place] + bytes([content[place] ^ 1 << pick.randrange(8)]) + content[place + 1 :]


def outcome(suffix: str, content: bytes, folder: Path) -> str:
    """converted, ModelError, StepError, crash (a signal: the host's to tell), or the name of what must not happen."""
    source = folder / f"model{suffix}"
    source.write_bytes(content)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        converter, params = convert_all.KINDS[suffix]
        request = ConvertRequest(name="m", source=source, params=params(), allow_code=suffix == ".joblib")
        try:
            converter.convert(request, convert_all.Context(folder))
            text = "converted"
        except (ModelError, StepError) as error:
            text = type(error).__name__ if error.hint and error.message[0] != "<" else "no hint"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"[:300]
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return "crash" if os.WIFSIGNALED(status) else text


def main() -> None:
    models, out = Path(sys.argv[1]), Path(sys.argv[2])
    found: dict[str, Counter[str]] = {}
    for seed, name in enumerate(FILES):
        content = (models / name).read_bytes()
        for kind, bad in damaged(content, seed):
            with tempfile.TemporaryDirectory() as folder:
                result = outcome(Path(name).suffix, bad, Path(folder))
            found.setdefault(f"{Path(name).suffix} {kind}", Counter())[result] += 1
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
