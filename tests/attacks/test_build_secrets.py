"""Nothing secret of a build ends where it does not belong (THREATS 19, 20)."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sdkpack.build.store import Store
from sdkpack.crypto.keyfile import format_key
from sdkpack.crypto.recipients import HpkeIdentity
from sdkpack.crypto.signature import ED25519, SigningKey
from tests.attacks.faults import FaultyFiles
from tests.unit.model.models import matmul

CANARY = b"CANARY-of-the-weights-9f3a-"
LABEL = b"CANARY-of-the-labels-77b1"

RECIPE = """
recipe = 1
bundle = { name = "tiny", version = "1.0.0" }
models.net.source = "net.onnx"
targets.cpu.runtime = "RUNTIME"
[pipelines.main]
inputs.x = "tensor(float32, [1, 64])"
steps = [ { model = "net" }, { op = "scores.top_k", with = { k = 1, labels = "labels.txt" }, as = "classes" } ]
samples = ["sample.npy"]
[encrypt]
recipients = ["env:ACME_CUSTOMER"]
[sign]
key = "env:ACME_SIGNING"
"""

CHILD = """
import sys, traceback
from pathlib import Path
from sdkpack.build.pack import pack
from sdkpack.build.progress import NullReporter
from sdkpack.build.store import Store
from sdkpack.errors import SdkpackError
from sdkpack.host.registry import Registry
from tests.attacks.faults import FaultyFiles
class Loud(NullReporter):
    def progressed(self, step, fraction, text): print(step, fraction, text)
    def warned(self, text): print(text)
folder, out, at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
registry = Registry((*Registry.scan().plugins, *Registry.of_modules(["tests.unit.build.plugins"]).plugins))
files = FaultyFiles(fail_at=at, fault="EIO") if at >= 0 else None
with Store(Path(sys.argv[4])) as store:
    try:
        print(pack(folder, registry=registry, store=store, out=out / "b.sdkpack", reporter=Loud(), files=files))
    except SdkpackError as error:
        traceback.print_exc()
        print(error, error.hint, error.as_dict())
        sys.exit(error.exit_code)
"""


def forms(secret: bytes) -> list[bytes]:
    """A secret as it would look in a log, a traceback or a file."""
    return [secret, secret.hex().encode(), base64.b64encode(secret)[:-4], base64.urlsafe_b64encode(secret)[:-4]]


def holders(folders: Iterable[Path], secrets: Iterable[bytes]) -> list[Path]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files for secret in secrets if secret in path.read_bytes()]


class Place:
    """A recipe with canaries, and folders for everything that a process writes to by default."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.recipe = root / "author"
        self.outside = [root / name for name in ("out", "tmp", "home", "cwd")]
        for folder in (self.recipe, *self.outside):
            folder.mkdir()
        model = matmul()
        canary = np.frombuffer((CANARY * 700)[: 64 * 64 * 4], np.float32).reshape(64, 64)
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.nan_to_num(canary, posinf=0, neginf=0), "w"))
        onnx.save(model, self.recipe / "net.onnx")
        assert CANARY in (self.recipe / "net.onnx").read_bytes()
        (self.recipe / "labels.txt").write_bytes(b"\n".join(LABEL + b"%d" % number for number in range(64)))
        np.save(self.recipe / "sample.npy", np.zeros((1, 64), np.float32))
        self.signing = SigningKey.generate(ED25519, os.urandom)
        self.customer = HpkeIdentity.generate("hpke-x25519", os.urandom)

    def run(self, *, runtime: str = "onnxruntime", at: int = -1, extra: str = "") -> tuple[int, bytes]:
        (self.recipe / "recipe.toml").write_text(RECIPE.replace("RUNTIME", runtime) + extra)
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.root / "home"), "TMPDIR": str(self.root / "tmp"),
            "PYTHONPATH": str(Path(__file__).parents[2]), "ACME_SIGNING": format_key(self.signing),
            "ACME_CUSTOMER": format_key(self.customer.recipient), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        out, store = self.root / "out", self.root / "store"
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(self.recipe), str(out), str(at), str(store)],
            env=environment, cwd=self.root / "cwd", capture_output=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def check(self, output: bytes) -> None:
        keys = [self.signing.private_key, format_key(self.signing).rpartition(":")[2].encode()]
        secrets = [form for key in keys for form in forms(key)]
        assert [secret for secret in secrets if secret in output] == []
        assert holders([*self.outside, self.root / "store"], secrets) == []
        assert CANARY not in output
        assert LABEL not in output
        assert holders(self.outside, [CANARY, LABEL]) == []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_pack_leaves_no_plaintext_and_no_key_outside_inputs_and_store(place: Place) -> None:
    code, output = place.run()
    assert code == 0, output.decode()
    assert (place.root / "out" / "b.sdkpack").exists()
    place.check(output)
    store = place.root / "store"
    assert holders([store], [CANARY]) != []  # the search finds what is there
    assert {path.stat().st_mode & 0o077 for path in [store, *(p for p in store.iterdir() if p.is_dir())]} == {0}


@pytest.mark.parametrize("at", [3, 6, 9, 12])
def test_nor_does_a_pack_that_fails_while_it_writes(place: Place, at: int) -> None:
    code, output = place.run(at=at)
    assert code == 1, output.decode()
    place.check(output)


@pytest.mark.parametrize("crash", ["compile", "result", "outside"])
def test_nor_does_a_plugin_that_crashes(place: Place, crash: str) -> None:
    code, output = place.run(runtime="test.faulty", extra=f'[targets.cpu.with]\ncrash = "{crash}"\n')
    assert code in (3, 5), output.decode()
    place.check(output)
    with Store(place.root / "store", files=FaultyFiles()) as store:
        assert list(store.workspaces.folder.glob("*/*")) == []


def test_a_secret_key_in_a_recipe_is_not_repeated(place: Place) -> None:
    secret = format_key(place.signing)
    text = RECIPE.replace("env:ACME_SIGNING", secret)
    (place.recipe / "recipe.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.attacks.test_build_secrets.RECIPE", text)
        code, output = place.run()
    assert code != 0
    place.check(output)
