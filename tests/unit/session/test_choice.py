from __future__ import annotations

import logging
from typing import Any

import pytest

from sdkpack.errors import NoFittingVariantError
from sdkpack.session.choice import Choice, Preference, choose_variant, this_platform
from tests.unit.session.fakes import entry, part, registry, variant


def choose(*variants: Any, platform: str = "linux/x86_64", **preference: Any) -> Choice:
    return choose_variant(
        entry(*variants), registry(), model="net", platform=platform, preference=Preference(**preference)
    )


def test_takes_the_only_variant_that_fits() -> None:
    choice = choose(variant())
    assert (choice.variant.target, choice.verdict, choice.refused, choice.fallback) == ("cpu", "best", (), False)


def test_best_goes_before_works_and_the_manifest_decides_between_equals() -> None:
    works, best, second = variant("a", runtime={"verdict": "works"}), variant("b"), variant("c")
    assert choose(works, best, second).variant.target == "b"


def test_a_device_goes_before_portable_even_where_it_only_works() -> None:
    portable, device = variant("cpu", portable=True), variant("npu", runtime={"verdict": "works"})
    choice = choose(portable, device)
    assert choice.variant.target == "npu" and not choice.fallback


def test_preferred_targets_go_first_and_others_remain() -> None:
    variants = variant("a"), variant("b"), variant("c", token="foreign")
    assert choose(*variants, prefer=("c", "b")).variant.target == "b"
    assert choose(*variants, prefer=("none",)).variant.target == "a"


def test_only_refuses_other_targets() -> None:
    choice = choose(variant("a"), variant("b"), only=("b",))
    assert choice.variant.target == "b" and choice.refused[0].reason == "not among the targets asked for (b)"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (variant("t", platforms=("macos/*", "linux/aarch64")), "made for macos/*, linux/aarch64, this is linux/x86_64"),
        (variant("t", part("fake.none")), "no plugin in use has a runtime 'fake.none'"),
        (variant("t", part("fake.compiler")), "runtime 'fake.compiler' has no runner"),
        (variant("t", part("fake.windows")), "runtime 'fake.windows' works on windows/*, this is linux/x86_64"),
        (variant("t", part("fake.apart")), "the environment of runtime 'fake.apart' is not built yet"),
        (variant("t", part("fake.gone")), "cannot be loaded"),
        (variant("t", token="foreign"), "was compiled for another chip"),
        (variant("t", runtime={"verdict": "no"}), "says no, without a reason"),
        (variant("t", part("fake", gives="z"), part("fake.none", takes="z")), "'fake.none'"),
    ],
)  # fmt: skip
def test_each_refused_variant_has_its_reason(wrong: Any, reason: str) -> None:
    choice = choose(wrong, variant("good"))
    assert choice.variant.target == "good"
    assert reason in choice.refused[0].reason
    with pytest.raises(NoFittingVariantError) as caught:
        choose(wrong)
    assert caught.value.problems[0].path == "models.net.t" and reason in caught.value.problems[0].message
    assert caught.value.hint


def test_a_variant_that_absorbed_steps_is_for_its_pipeline_alone() -> None:
    variants = variant("npu", absorbed=("resize",)), variant("cpu")
    assert choose(*variants).variant.target == "npu"
    alone = choose(*variants, alone=True)
    assert alone.variant.target == "cpu"
    assert "computes steps of a pipeline itself (resize)" in alone.refused[0].reason


def test_needs_are_for_the_first_part_alone() -> None:
    both = variant("t", part("fake", gives="z"), part("fake.fast", takes="z"), runtime={"verdict": "works"})
    assert choose(both).verdict == "works"


def test_fallback_is_logged_and_can_be_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    variants = variant("npu", token="foreign"), variant("cpu", portable=True)
    with caplog.at_level(logging.WARNING, "sdkpack.session"):
        choice = choose(*variants)
    assert choice.variant.target == "cpu" and choice.fallback
    assert "npu: was compiled for another chip" in caplog.text
    with pytest.raises(NoFittingVariantError, match="switched off"):
        choose(*variants, portable_fallback=False)
    assert choose(variant("cpu", portable=True), portable_fallback=False).variant.target == "cpu"


def test_a_portable_variant_that_was_asked_for_is_no_fallback(caplog: pytest.LogCaptureFixture) -> None:
    variants = variant("npu"), variant("cpu", portable=True)
    assert not choose(*variants, only=("cpu",)).fallback and not choose(*variants, prefer=("cpu",)).fallback
    assert not caplog.text


def test_this_platform_is_written_like_the_patterns() -> None:
    system, _, machine = this_platform().partition("/")
    assert system and machine and system == system.lower() and machine not in {"amd64", "arm64"}
