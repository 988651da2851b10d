"""The vendor example: installed from a copy, packed for, run, misused; and no file outside its folder changes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.installing import environment_with, install_copy

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "vendor-plugin"
OUTSIDE = ("sdkpack", "plugins", "schemas", "docs")


def _tree() -> dict[str, str]:
    files = (path for name in OUTSIDE for path in (ROOT / name).rglob("*") if path.is_file())
    return {
        str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Vendor:
    """A machine with the plugin installed."""

    site: Path
    folder: Path

    def sdkpack(self, *arguments: str | Path, **more: str) -> Ended:
        return self.python("-c", "from sdkpack.cli.main import main; main()", *arguments, **more)

    def python(self, *arguments: str | Path, **more: str) -> Ended:
        facts = {"ACME_NPU2_LICENCE": str(self.folder / "licence"), "SDKPACK_STORE": str(self.folder / "store")}
        environment = environment_with(self.site, **{**facts, **more})
        result = subprocess.run(
            [sys.executable, *map(str, arguments)], cwd=self.folder, env=environment, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        return Ended(result.returncode, result.stdout, result.stderr)

    def recipe(self, *changes: tuple[str, str]) -> Path:
        text = (EXAMPLE / "recipe.toml").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = self.folder / "changed.toml"
        path.write_text(text)
        return path


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    folder = tmp_path_factory.mktemp("vendor")
    before = _tree()
    made = Vendor(install_copy(EXAMPLE, folder), folder)
    made.python(EXAMPLE / "make_models.py", folder)
    (folder / "licence").write_text("acme-npu2 licence\n")
    (folder / "recipe.toml").write_text((EXAMPLE / "recipe.toml").read_text())
    yield made
    assert _tree() == before, "adding a backend changed files outside of its folder"


@pytest.fixture(scope="module")
def bundle(vendor: Vendor) -> Path:
    ended = vendor.sdkpack("pack", "-o", "out.sdkpack")
    assert ended.code == 0, ended.err
    return vendor.folder / "out.sdkpack"


@pytest.fixture(scope="module")
def variants(vendor: Vendor, bundle: Path) -> dict[str, Any]:
    models = vendor.sdkpack("inspect", bundle, "--json").json["manifest"]["models"]
    return {name: {variant["target"]: variant for variant in model["variants"]} for name, model in models.items()}


def test_nothing_of_sdkpack_names_it() -> None:
    named = [
        str(path.relative_to(ROOT)) for name in ("sdkpack", "plugins", "schemas") for path in (ROOT / name).rglob("*")
        if path.suffix in {".py", ".json", ".toml"} and "__pycache__" not in path.parts
        and "acme_npu2" in path.read_text(encoding="utf-8")
    ]  # fmt: skip
    assert not named


def test_it_is_listed_as_any_other(vendor: Vendor) -> None:
    plugins = vendor.sdkpack("plugins", "list", "--json").json["plugins"]
    (mine,) = [plugin for plugin in plugins if plugin["distribution"] == "acme-npu2"]
    assert (mine["used"], mine["api"]) == (True, [1, 0])
    assert [(row["kind"], row["name"]) for row in mine["brings"]] == [("runtime", "acme.npu2")]


def test_two_models_share_one_program(variants: dict[str, Any], vendor: Vendor, bundle: Path) -> None:
    parts = {name: targets["npu"]["parts"][0] for name, targets in variants.items()}
    assert {part["entry"] for part in parts.values()} == {"colour", "light"}
    assert len({part["files"]["program"] for part in parts.values()}) == 2
    ended = vendor.python(
        "-c",
        "import sdkpack, sys\n"
        "with sdkpack.open(sys.argv[1], allow_unsigned=True) as s:\n"
        "  a, b = (s.bundle.read(p) for p in sys.argv[2:])\n"
        "  print(a == b, len(a))",
        bundle, *(part["files"]["program"] for part in parts.values()),
    )  # fmt: skip
    same, size = ended.out.split()
    assert same == "True"
    facts = vendor.sdkpack("inspect", bundle, "--json").json
    assert [part["size_bytes"] for part in facts["parts"]].count(int(size)) == 1, "stored once"


def test_normalisation_is_absorbed_and_the_rest_runs_on_the_cpu(variants: dict[str, Any]) -> None:
    variant = variants["colour"]["npu"]
    assert variant["absorbed"] == ["to_tensor"]
    assert [part["runtime"] for part in variant["parts"]] == ["acme.npu2", "onnxruntime"]
    assert variant["parts"][0]["inputs"] == [{"name": "x", "dtype": "uint8", "shape": [32, 32, 3]}]
    assert variant["coverage"] == {
        "nodes_total": 9, "nodes_on_device": 8, "unsupported": ["Softmax"], "transfers": 2,
    }  # fmt: skip
    assert variant["shapes"] == {"N": 1}
    assert variant["needs"]["token"] == "npu2-program/3"
    assert not variants["light"]["npu"].get("absorbed"), "no pipeline normalises for it"


def test_evidence_says_simulator_and_covers_the_absorbed_segment(variants: dict[str, Any]) -> None:
    evidence = {finding["check"]: finding for finding in variants["colour"]["npu"]["evidence"]}
    assert evidence["parity"]["where"]["kind"] == "simulator"
    assert "over the steps to_tensor and the model" in evidence["parity"]["note"]
    (tensor,) = evidence["parity"]["tensors"]
    assert 0 < tensor["normalized_error"] < tensor["tolerance"], "quantised, and still right"


def test_simulator_and_board_differ_slightly_and_both_are_right(vendor: Vendor, bundle: Path) -> None:
    scores = {}
    for board in ("", "1"):
        ended = vendor.sdkpack("run", bundle, "--allow-unsigned", "image=red.npy", "--json", ACME_NPU2_BOARD=board)
        assert ended.code == 0, ended.err
        scores[board] = ended.json["outputs"]["colours"][0]
        replayed = vendor.sdkpack("verify", bundle, "--allow-unsigned", "--replay", ACME_NPU2_BOARD=board)
        assert replayed.code == 0, replayed.err
    assert {score["label"] for score in scores.values()} == {"red"}


def test_a_model_that_absorbed_steps_is_run_by_tensors_on_another_target(vendor: Vendor, bundle: Path) -> None:
    ended = vendor.python(
        "-c",
        "import sdkpack, sys, numpy as np\n"
        "with sdkpack.open(sys.argv[1], allow_unsigned=True) as s:\n"
        "  print(s.choice('colour').variant.target)\n"
        "  print(s.run('colour', x=np.zeros((1, 3, 32, 32), np.float32))['scores'].shape)\n"
        "  seen = []\n"
        "  image = np.load('red.npy')\n"
        "  print(s.run('tell', image=image, trace=lambda step, name, value: seen.append(name))['colours'][0]['label'])\n"
        "  print(seen)\n"
        "with sdkpack.open(sys.argv[1], allow_unsigned=True, targets=['npu']) as s:\n"
        "  try: s.run('colour', x=np.zeros((1, 3, 32, 32), np.float32))\n"
        "  except sdkpack.SdkpackError as error: print(error)\n"
        "  print(s.run('tell', image=image, until='pixels')['pixels'].shape)\n",
        bundle,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[:3] == ["npu", "(1, 4)", "red"]
    assert lines[3] == "['small', 'scores', 'colours']", "nobody has the tensor between: the device keeps it"
    assert "it computes steps of a pipeline itself (to_tensor), so only the pipeline can run it" in ended.out
    assert lines[-1] == "(1, 3, 32, 32)", "asked for alone, the step itself computes it"


def test_without_a_licence_the_mend_is_told(vendor: Vendor) -> None:
    ended = vendor.sdkpack("pack", "-o", "no.sdkpack", "--json", ACME_NPU2_LICENCE="")
    assert ended.code in (2, 5)
    assert "ACME_NPU2_LICENCE" in ended.out
    assert not (vendor.folder / "no.sdkpack").exists()


@pytest.mark.parametrize(
    ("crash", "told"),
    [
        ("segfault", "was ended by SIGSEGV"),
        ("hang", "took longer than 5 s"),
        ("garbage", "wrote no program"),
        ("forget", "wrote no program"),
    ],
)
def test_a_toolchain_that_misbehaves_is_named(vendor: Vendor, crash: str, told: str) -> None:
    recipe = vendor.recipe(("min_offload", f'with = {{ crash = "{crash}" }}\nmin_offload'))
    ended = vendor.sdkpack("pack", recipe, "-o", "crashed.sdkpack", "--json")
    assert ended.code == 1
    error = ended.json["error"]
    assert told in error["message"]
    assert "log" in error["hint"]
    assert not (vendor.folder / "crashed.sdkpack").exists()


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ([("min_offload = 0.8", "with = { memory_kib = 4 }")], 1, "bytes on the device, which has 4096"),
        ([("min_offload = 0.8", "min_offload = 0.95")], 6, "8 of 9 nodes of model 'colour' run on the target itself"),
        ([('light.samples = ["sample-0.npz"', 'light.samples = ["absent.npz"')], 1, "no file 'absent.npz'"),
        ([("light.samples", "light.license = 'MIT' #")], 1, "comes without samples"),
        ([('precision = "int8"', 'precision = "float16"')], 2, "has no precision 'float16', expected int8"),
    ],
    ids=["memory", "gate", "absent", "samples", "precision"],
)
def test_what_cannot_be_is_said(vendor: Vendor, changes: list[tuple[str, str]], code: int, told: str) -> None:
    ended = vendor.sdkpack("pack", vendor.recipe(*changes), "-o", "bad.sdkpack", "--json")
    assert told in ended.out
    assert ended.code == code
    assert not (vendor.folder / "bad.sdkpack").exists()


@pytest.mark.parametrize("size", [1, 4])
def test_any_number_of_items_runs_on_a_fixed_batch(vendor: Vendor, size: int) -> None:
    recipe = vendor.recipe(("shapes.N = 1", f"shapes.N = {size}\nwith.absorb = false"))
    assert vendor.sdkpack("pack", recipe, "-o", f"batch{size}.sdkpack", "--force").code == 0
    ended = vendor.python(
        "-c",
        "import sdkpack, sys, numpy as np\n"
        "x = np.concatenate([np.load(f'sample-{n}.npz')['x'] for n in range(6)])\n"
        "with sdkpack.open(sys.argv[1], allow_unsigned=True, targets=['npu']) as s:\n"
        "  npu = s.run('colour', x=x)['scores']\n"
        "with sdkpack.open(sys.argv[1], allow_unsigned=True, targets=['cpu']) as s:\n"
        "  cpu = s.run('colour', x=x)['scores']\n"
        "print(npu.shape, npu.argmax(1).tolist() == cpu.argmax(1).tolist(), abs(npu - cpu).max() < 0.1)",
        f"batch{size}.sdkpack",
    )
    assert ended.out.strip() == "(6, 4) True True", ended.err


def test_a_memory_limit_and_a_foreign_token_are_named_before_loading(vendor: Vendor, bundle: Path) -> None:
    ended = vendor.python(
        "-c",
        "import sys\n"
        "from acme_npu2.runner import Npu2Runner\n"
        "print(Npu2Runner().check({'memory_bytes': 1 << 30}, 'npu2-program/3'))\n"
        "print(Npu2Runner().check({}, 'npu2-program/2'))",
    )
    assert "needs 1073741824 bytes" in ended.out
    assert "compiled for 'npu2-program/2'" in ended.out


def test_the_toolchain_runs_without_sdkpack(vendor: Vendor) -> None:
    sources = list((EXAMPLE / "src/acme_npu2/toolchain").glob("*.py"))
    assert len(sources) == 4
    assert not any("sdkpack" in line for path in sources for line in path.read_text().splitlines() if "import" in line)
    blocked = (
        "import sys, runpy\n"
        "class Block:\n"
        "  def find_spec(self, name, path=None, target=None):\n"
        "    if name.split('.')[0] in ('sdkpack', 'onnx'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "sys.argv = ['acmecc', 'nowhere.json']\n"
        "runpy.run_path(sys.argv[0] if 0 else PATH, run_name='acmecc')\n"
        "print('loaded')"
    ).replace("PATH", repr(str(vendor.site / "acme_npu2/toolchain/acmecc.py")))
    assert "loaded" in vendor.python("-I", "-c", blocked).out


def test_its_coverage_is_honest(vendor: Vendor) -> None:
    """It claims seven operators; every case of another one is unsupported, and none is unclassified."""
    arguments = ("-m", "sdkpack.testing.coverage", "acme.npu2", "--cases", "pool")
    report = vendor.python(*arguments, "--expected", EXAMPLE / "tests" / "operators.toml").json
    assert report["precision"] == "int8"
    assert report["totals"]["pass"] > 0
    assert report["totals"]["unsupported"] > report["totals"]["pass"]
    assert not report["unlisted"], report["unlisted"]
    lines = {line["operator"]: line for line in report["operators"]}
    assert lines["GlobalAveragePool"]["pass"] == 2
    assert lines["AveragePool"].get("pass", 0) == 0


def test_it_conforms(vendor: Vendor) -> None:
    test = vendor.folder / "test_conformance.py"
    test.write_text((EXAMPLE / "tests/test_conformance.py").read_text())
    assert len([line for line in test.read_text().splitlines() if line.strip()]) <= 5
    ended = vendor.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", vendor.folder, test)
    assert ended.code == 0, ended.out
    assert " failed" not in ended.out


APART = """
from dataclasses import replace
from acme_npu2 import plugin
from sdkpack.plugin import EnvironmentSpec, Half, hookimpl

SDKPACK_API = (1, 0)


@hookimpl
def sdkpack_runtimes():
    [info] = plugin.sdkpack_runtimes()
    environment = EnvironmentSpec(requirements=("numpy==NUMPY",), smoke_test="import numpy")
    runner = Half(load=info.runner.load, isolation="environment", environment=environment)
    return [replace(info, runner=runner)]
"""
RUN_APART = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
import sdkpack
from sdkpack.errors import PluginError
from sdkpack.host.registry import Registry
from sdkpack.host.tools import ToolHost

OTHERS = ["sdkpack.builtin.plugin", "sdkpack_onnxruntime.plugin", "sdkpack_vision.plugin"]
image = np.load("red.npy")
answers = {}
for mine in ("acme_npu2.plugin", "npu2_apart"):
    if mine == "npu2_apart":
        [row] = Registry.of_modules([mine]).runtimes()
        try:
            ToolHost(environ=dict(os.environ)).environments.ensure(row.info.runner.environment, plugin="acme.npu2")
        except PluginError as error:
            sys.exit(f"no index: {error}")
    with sdkpack.open(sys.argv[1], allow_unsigned=True, plugins=[*OTHERS, mine], targets=["npu"]) as session:
        first = session.run("tell", image=image)
        if mine == "npu2_apart":
            # Every process that this one started: the launchers, with whom the drivers end.
            for path in Path("/proc").glob("[0-9]*/stat"):
                if path.read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    # A call that meets it dying is the one that fails; the next one starts it again.
                    while path.read_text().rpartition(")")[2].split()[0] != "Z":
                        time.sleep(0.01)
        again = session.run("tell", image=image)
        answers[mine] = [repr(first), repr(again), session.info()["models"]["colour"].get("isolation", {})]
print(json.dumps(answers))
"""


def test_its_driver_may_run_apart(vendor: Vendor, bundle: Path) -> None:
    """It loads by path only, knows nothing of processes, and gives the same answers."""
    import numpy as np

    (vendor.site / "npu2_apart.py").write_text(APART.replace("NUMPY", np.__version__))
    ended = vendor.python(
        "-c", RUN_APART, bundle, SDKPACK_ENVIRONMENTS=str(ROOT / "build" / "envs" / "runners")
    )  # fmt: skip
    if ended.err.startswith("no index"):
        pytest.skip(ended.err)
    assert ended.code == 0, ended.err
    inside, apart = ended.json.values()
    assert apart[0] == apart[1] == inside[0]
    assert not inside[2]
    assert set(apart[2]) == {"acme.npu2"}
    assert "files" in apart[2]["acme.npu2"]
