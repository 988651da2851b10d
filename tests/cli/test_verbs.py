"""Each verb on a small real project: what it prints, what it leaves, how it ends."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest

TRUST = ("--trust", "publisher.pub")
KEY = ("--key", "customer.key")


def test_pack_tells_what_it_made(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("pack", "--json")
    assert ended.code == 0
    facts = ended.json
    assert facts["ok"] is True
    assert (facts["encrypted"], facts["signed"]) == (True, True)
    assert facts["steps"]["stored"] == 0
    assert Path(facts["bundle"]).stat().st_size == facts["size_bytes"]
    report = json.loads((project / "shapes-1.2.0.report.json").read_text())
    assert report["identity"] == facts["identity"]


def test_second_pack_does_no_step(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    facts = sdkpack("pack", "--force", "--json").json
    assert facts["steps"]["run"] == 0
    assert facts["steps"]["stored"] > 0


def test_changed_labels_convert_no_model_again(bundle: Path, project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    (project / "labels.txt").write_text("a\nb\nc\n")
    assert sdkpack("pack", "--force", "--json").json["steps"]["run"] == 0


def test_pack_refuses_to_replace_before_it_works(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("pack")
    assert ended.code == 1
    assert "exists already" in ended.err
    assert "--force" in ended.err


def test_dry_run_writes_nothing(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    before = set(project.iterdir())
    ended = sdkpack("pack", "--dry-run")
    assert ended.code == 0
    assert "net/compile/cpu" in ended.out
    assert set(project.iterdir()) == before


def test_plan_says_what_is_done(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    before = sdkpack("plan").out
    assert "to do" in before
    sdkpack("pack")
    after = sdkpack("plan").out
    assert "to do" not in after
    plan = sdkpack("plan", "--json").json["plan"]
    assert plan["plan"] == 1
    assert plan["steps"][0]["kind"] == "import"


def test_plain_packs_are_equal_byte_by_byte(project: Path, sdkpack, tmp_path_factory, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    digests = []
    for number, mask in enumerate((0o022, 0o077)):
        monkeypatch.setenv("SDKPACK_STORE", str(tmp_path_factory.mktemp("other-store")))
        import os

        old = os.umask(mask)
        try:
            assert sdkpack("pack", "plain.toml", "-o", f"out{number}.sdkpack").code == 0
        finally:
            os.umask(old)
        digests.append((project / f"out{number}.sdkpack").read_bytes())
    assert digests[0] == digests[1]


def test_verify_wants_to_know_whom_to_trust(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("verify", bundle)
    assert ended.code == 2
    assert "--trust" in ended.err


def test_verify_without_a_key_proves_origin_and_bytes(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("verify", bundle, *TRUST, "--json")
    assert ended.code == 0
    assert ended.json["contents"] is False


def test_verify_replays_what_was_recorded(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("verify", bundle, *TRUST, *KEY, "--replay", "--json")
    assert ended.code == 0, ended.err
    facts = ended.json
    assert facts["contents"] is True
    assert facts["replay"][0]["name"] == "net"
    assert facts["replay"][0]["outputs"] == {"y": 0.0}


def test_a_changed_byte_ends_with_4(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    for arguments in ((*TRUST,), (*TRUST, *KEY), ("--allow-unsigned", *KEY)):
        ended = sdkpack("verify", bundle, *arguments, "--json")
        assert ended.code == 4
        assert ended.json["ok"] is False
        assert ended.json["error"]["exit_code"] == 4


def test_the_wrong_keys_end_with_4(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    sdkpack("keys", "new", "recipient", "stranger")
    sdkpack("keys", "new", "signing", "forger")
    assert sdkpack("verify", bundle, *TRUST, "--key", "stranger.key").code == 4
    assert sdkpack("verify", bundle, "--trust", "forger.pub").code == 4


def test_a_stripped_signature_ends_with_4(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    recipe = (project / "recipe.toml").read_text()
    (project / "unsigned.toml").write_text(recipe.replace('[sign]\nkey = "publisher.key"\n', ""))
    assert sdkpack("pack", "unsigned.toml", "-o", "unsigned.sdkpack").code == 0
    assert sdkpack("verify", "unsigned.sdkpack", *TRUST, *KEY).code == 4
    assert sdkpack("verify", "unsigned.sdkpack", "--allow-unsigned", *KEY).code == 0


def test_a_trust_file_sets_a_minimum_sequence(bundle: Path, project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    text = 'trust = 1\nkeys = [{ key = "publisher.pub", name = "Acme" }]\n[minimum_sequence]\nshapes = SEQ\n'
    (project / "trust.toml").write_text(text.replace("SEQ", "3"))
    ended = sdkpack("verify", bundle, "--trust", "trust.toml", *KEY)
    assert ended.code == 0
    assert "Acme (ed25519)" in ended.out
    (project / "trust.toml").write_text(text.replace("SEQ", "4"))
    for key in (KEY, ()):
        ended = sdkpack("verify", bundle, "--trust", "trust.toml", *key)
        assert ended.code == 4
        assert "older" in ended.err


def test_inspect_needs_no_key_and_proves_nothing(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("inspect", bundle, "--json")
    assert ended.code == 0
    facts = ended.json
    assert facts["about"] == {"name": "shapes", "version": "1.2.0", "sequence": 3, "license": "MIT"}
    assert facts["verified"] is False
    assert "manifest" not in facts
    opened = sdkpack("inspect", bundle, *KEY, "--json").json
    assert opened["manifest"]["models"]["net"]["inputs"][0]["shape"] == ["N", 4]
    assert "nothing here is verified" in sdkpack("inspect", bundle).err


def test_unpack_writes_every_file(bundle: Path, project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("unpack", bundle, "-o", "out", *TRUST, *KEY, "--json")
    assert ended.code == 0, ended.err
    files = [path for path in (project / "out").rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert len(files) == ended.json["files"]
    manifest = json.loads((project / "out/manifest.json").read_text())
    labels = [path for path in files if path.read_bytes() == b"circle\nsquare\ntriangle\n"]
    assert len(labels) == 1
    assert manifest["name"] == "shapes"


def test_unpack_refuses_a_folder_with_such_files(bundle: Path, project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    assert sdkpack("unpack", bundle, "-o", "out", *TRUST, *KEY).code == 0
    ended = sdkpack("unpack", bundle, "-o", "out", *TRUST, *KEY)
    assert ended.code == 1
    assert "exists" in ended.err


def test_run_prints_the_outputs(bundle: Path, x: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("run", bundle, x, *TRUST, *KEY)
    assert ended.code == 0, ended.err
    best = json.loads(ended.out)["best"]
    assert [row["label"] for row in best] != []
    limited = json.loads(sdkpack("run", bundle, f"x={x}", *TRUST, *KEY, "--param", "least=0.9").out)["best"]
    assert limited == [row for row in best if row["score"] >= 0.9]


def test_run_of_a_recipe_needs_no_keys_and_dumps_intermediates(project: Path, x: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("run", "recipe.toml", x, "--dump", "values")
    assert ended.code == 0, ended.err
    dumped = sorted(path.name for path in (project / "values").iterdir())
    assert any(name.endswith(".npy") for name in dumped)
    assert any("classes" in name and name.endswith(".json") for name in dumped)
    classes = json.loads(sdkpack("run", "recipe.toml", x, "--until", "classes").out)
    assert len(classes["classes"]) == 2
    assert not list(project.glob("*.sdkpack"))


def test_run_of_a_model_by_tensors(plain_bundle: Path, x: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("run", plain_bundle, x, "-p", "net", "--allow-unsigned")
    assert ended.code == 0, ended.err
    assert np.array(json.loads(ended.out)["y"]).shape == (1, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-p", "clasify"], 2, "classify"),
        (["--param", "lest=1"], 1, "least"),
        (["--param", "least=2"], 1, "0.0"),
        (["--param", "least"], 2, "NAME=VALUE"),
    ],
)
def test_run_with_wrong_words(
    plain_bundle: Path, x: Path, sdkpack, arguments: list[str], code: int, words: str
) -> None:  # type: ignore[no-untyped-def]
    ended = sdkpack("run", plain_bundle, x, "--allow-unsigned", *arguments)
    assert (ended.code, words in ended.err) == (code, True), ended.err


def test_run_with_a_wrong_shape_says_got_and_expected(plain_bundle: Path, project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    np.save(project / "wide.npy", np.zeros((1, 5), dtype=np.float32))
    ended = sdkpack("run", plain_bundle, "wide.npy", "--allow-unsigned")
    assert ended.code == 1
    assert "[1, 5]" in ended.err
    assert "4" in ended.err


def test_sign_adds_a_second_signature(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    before = sdkpack("inspect", bundle, "--json").json
    sdkpack("keys", "new", "signing", "reviewer", "--type", "ecdsa-p256-sha256")
    assert sdkpack("sign", bundle, "--key", "reviewer.key").code == 0
    after = sdkpack("inspect", bundle, "--json").json
    assert after["identity"] == before["identity"]
    assert len(after["signatures"]) == 2
    assert sdkpack("verify", bundle, "--trust", "reviewer.pub", *KEY).code == 0


def test_detached_signature(project: Path, plain_bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    assert sdkpack("sign", plain_bundle, "--key", "publisher.key", "--detached").code == 0
    assert sdkpack("verify", plain_bundle, *TRUST).code == 4
    assert sdkpack("verify", plain_bundle, *TRUST, "--signature", "plain.sdkpack.sig").code == 0
    other = project / "other.sdkpack"
    (project / "net.onnx").touch()
    recipe = (project / "plain.toml").read_text().replace("1.2.0", "1.2.1")
    (project / "plain2.toml").write_text(recipe)
    assert sdkpack("pack", "plain2.toml", "-o", other).code == 0
    assert sdkpack("verify", other, *TRUST, "--signature", "plain.sdkpack.sig").code == 4


def test_split_signing_for_a_key_elsewhere(plain_bundle: Path, project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    from sdkpack.crypto.keyfile import read_key_file
    from sdkpack.crypto.signature import SigningKey

    assert sdkpack("sign", plain_bundle, "--export", "message.bin").code == 0
    message = (project / "message.bin").read_bytes()
    assert len(message) == 148
    (key,) = read_key_file(project / "publisher.key")
    assert isinstance(key, SigningKey)
    (project / "signature.bin").write_bytes(key.sign(message))
    attach = ("sign", plain_bundle, "--attach", "signature.bin", "--public-key", "publisher.pub")
    assert sdkpack(*attach).code == 0
    assert sdkpack("verify", plain_bundle, *TRUST).code == 0
    (project / "signature.bin").write_bytes(bytes(64))
    assert sdkpack(*attach).code == 4


def test_rewrap_changes_who_can_open(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    sdkpack("keys", "new", "recipient", "second", "--type", "hpke-mlkem768x25519")
    before = sdkpack("inspect", bundle, "--json").json["identity"]
    ended = sdkpack("rewrap", bundle, *KEY, "--to", "second.pub", "-o", "second.sdkpack")
    assert ended.code == 0, ended.err
    assert sdkpack("inspect", "second.sdkpack", "--json").json["identity"] == before
    assert sdkpack("verify", "second.sdkpack", *TRUST, "--key", "second.key").code == 0
    assert sdkpack("verify", "second.sdkpack", *TRUST, *KEY).code == 4


def test_a_grant_opens_the_bundle_as_it_is(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    sdkpack("keys", "new", "recipient", "second")
    ended = sdkpack("rewrap", bundle, *KEY, "--to", "second.pub", "--grant", "--json")
    assert ended.code == 0, ended.err
    grant = ended.json["output"]
    assert Path(grant).stat().st_size < 2048
    assert sdkpack("verify", bundle, *TRUST, "--key", "second.key").code == 4
    assert sdkpack("verify", bundle, *TRUST, "--key", "second.key", "--grant", grant).code == 0


def test_rekey_needs_a_new_signature(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    before = sdkpack("inspect", bundle, "--json").json["identity"]
    common = ("rewrap", bundle, *KEY, *TRUST, "--to", "customer.pub", "--rekey", "-o", "new.sdkpack")
    assert sdkpack(*common, "--sign", "publisher.key").code == 0
    assert sdkpack("inspect", "new.sdkpack", "--json").json["identity"] != before
    assert sdkpack("verify", "new.sdkpack", *TRUST, *KEY).code == 0


def test_keys_are_never_replaced_and_never_shown(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    assert stat.S_IMODE((project / "customer.key").stat().st_mode) == 0o600
    assert sdkpack("keys", "new", "recipient", "customer").code == 1
    secret = next(line for line in (project / "customer.key").read_text().splitlines() if "secret" in line)
    shown = sdkpack("keys", "show", "customer.key")
    assert shown.code == 0
    assert secret.rpartition(":")[2] not in shown.out


def test_a_key_that_others_can_read_is_refused(bundle: Path, project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    (project / "customer.key").chmod(0o644)
    ended = sdkpack("verify", bundle, *TRUST, *KEY)
    assert ended.code == 1
    assert "chmod 600" in ended.err


def test_keys_from_the_environment(bundle: Path, project: Path, sdkpack, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("CUSTOMER", (project / "customer.key").read_text())
    assert sdkpack("verify", bundle, *TRUST, "--key", "env:CUSTOMER").code == 0
    ended = sdkpack("verify", bundle, *TRUST, "--key", "env:NOBODY")
    assert ended.code == 1
    assert "NOBODY" in ended.err


def test_store_can_be_measured_checked_and_cleaned(bundle: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    assert sdkpack("store", "size", "--json").json["size_bytes"] > 0
    assert sdkpack("store", "verify", "--json").json["damaged"] == []
    assert sdkpack("store", "clean", "--older-than", "1d", "--json").json["freed_bytes"] == 0
    assert sdkpack("store", "clean", "--json").json["freed_bytes"] > 0
    assert sdkpack("store", "size", "--json").json["objects"] == 0
    assert sdkpack("store", "clean", "--older-than", "soon").code == 2


def test_init_writes_a_recipe_that_packs_unedited(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    (project / "recipe.toml").unlink()
    ended = sdkpack("init", "net.onnx")
    assert ended.code == 0, ended.err
    assert sdkpack("pack").code == 0
    assert sdkpack("verify", "net-0.1.0.sdkpack", "--allow-unsigned", "--replay").code == 0
    assert sdkpack("init", "net.onnx").code == 1
    assert sdkpack("init", "net.onnx", "--force").code == 0


def test_doctor_and_plugins_tell_the_state(sdkpack) -> None:  # type: ignore[no-untyped-def]
    assert sdkpack("doctor", "--json").json["healthy"] is True
    listed = sdkpack("plugins", "list", "--json").json["plugins"]
    assert {"builtin", "onnxruntime", "vision"} <= {plugin["name"] for plugin in listed}
    shown = sdkpack("plugins", "show", "scores.top_k", "--json").json
    assert shown["inputs"][0]["name"] == "scores"
    ended = sdkpack("plugins", "show", "scores.topk")
    assert ended.code == 5
    assert "scores.top_k" in ended.err


def test_a_configuration_leaves_plugins_out(project: Path, sdkpack, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    path = project / "config.toml"
    monkeypatch.setenv("SDKPACK_CONFIG", str(path))
    path.write_text("config = 1\n[plugins]\nallow = ['sdkpack-vision']\n")
    rows = {plugin["name"]: plugin for plugin in sdkpack("plugins", "list", "--json").json["plugins"]}
    assert (rows["vision"]["state"], rows["builtin"]["state"]) == ("used", "used")
    assert (rows["onnxruntime"]["state"], rows["onnxruntime"]["brings"]) == ("left out", [])
    assert f"left out: not in plugins.allow of {path}" in sdkpack("plugins", "list").out
    assert sdkpack("doctor", "--json").json["healthy"] is True
    ended = sdkpack("plugins", "show", "onnxruntime")
    assert ended.code == 5
    assert f"'onnxruntime' is not in plugins.allow of {path}" in ended.err


def test_a_bad_configuration_stops_what_would_import_plugins(project: Path, sdkpack, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    path = project / "config.toml"
    monkeypatch.setenv("SDKPACK_CONFIG", str(path))
    path.write_text("config = 1\n[plugins]\nallowed = ['sdkpack-vision']\n")
    ended = sdkpack("plugins", "list")
    assert ended.code == 2
    assert "plugins.allowed" in ended.err
    ended = sdkpack("doctor", "--json")
    assert ended.code == 5
    (finding,) = [one for one in ended.json["findings"] if one["what"] == "config"]
    assert "plugins.allowed" in finding["told"]
    assert str(path) in finding["mend"]


def test_a_plan_is_carried_out_again_or_refused(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    (project / "plan.json").write_text(sdkpack("plan", "plain.toml", "--json").out)
    first = sdkpack("pack", "plain.toml", "-o", "first.sdkpack", "--json").json
    second = sdkpack("pack", "plain.toml", "--plan", "plan.json", "-o", "second.sdkpack", "--json").json
    assert first["identity"] == second["identity"]
    text = (project / "plain.toml").read_text()
    (project / "plain.toml").write_text(text.replace('version = "', 'version = "9'))
    ended = sdkpack("pack", "plain.toml", "--plan", "plan.json", "-o", "third.sdkpack")
    assert ended.code == 2
    assert "bundle: differs" in ended.err
    assert not (project / "third.sdkpack").exists()
    assert sdkpack("pack", "plain.toml", "--plan", "absent.json", "-o", "third.sdkpack").code == 1


def test_pack_to_standard_output(project: Path, sdkpack) -> None:  # type: ignore[no-untyped-def]
    import subprocess
    import sys

    command = [sys.executable, "-c", "from sdkpack.cli import main; main()", "pack", "plain.toml", "-o", "-"]
    done = subprocess.run(command, check=True, capture_output=True)
    (project / "piped.sdkpack").write_bytes(done.stdout)
    assert sdkpack("verify", "piped.sdkpack", "--allow-unsigned").code == 0


def test_plugins_show_tells_defaults_from_what_is_required(sdkpack) -> None:  # type: ignore[no-untyped-def]
    rows = {line.split()[0]: line for line in sdkpack("plugins", "show", "caffe").out.splitlines() if line}
    assert rows["opset"].endswith("default 17")
    assert rows["shapes"].endswith("optional")
    assert sdkpack("plugins", "show", "list.zip").out.count("required") == 1
