"""`vlmprompt.testing` as plugin authors use it: cases of pytest, unregistered classes, fixtures, no pytest at all."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.testing.broken_methods import GradientsReachAllItLearns, StateRoundTrip
from vlmprompt import plugins
from vlmprompt.api import (
    Backbone,
    CapabilityError,
    CoOp,
    CoOpConfig,
    InputError,
    Losses,
    MethodOutput,
    UsageError,
    build_method,
    class_text,
)
from vlmprompt.conformance.methods import METHOD_CHECKS
from vlmprompt.describe.provider import Question
from vlmprompt.testing import check_method, fixtures


class Fine(CoOp):
    """CoOp that nobody has registered."""


class Choosy(CoOp):
    """A parameter that only some draws choose, and that says so; and a capability that only later versions know."""

    without_gradient = frozenset({"rare_*"})

    def create(self) -> None:
        super().create()
        self.rare_token = torch.nn.Parameter(torch.ones(2))


class Taught(CoOp):
    """Text held near that of a second model, whose weights nobody has."""

    def loss(
        self,
        output: MethodOutput,
        labels: Tensor,
        *,
        draws: Mapping[str, Tensor] | None = None,
        weights: Tensor | None = None,
    ) -> Losses:
        teacher = self.teacher("nowhere/to-be-found")
        theirs_Kd = class_text(teacher.text, "a {}.", self.class_names)
        total = super().loss(output, labels, weights=weights).total
        return Losses(total + (theirs_Kd - output.aux["text_PKd"].mean(dim=0)).abs().mean())


CHECKS = {check.name: check for check in METHOD_CHECKS}
test_a_class_that_is_not_registered = check_method(Fine, config=CoOpConfig, n_ctx=2)


def test_each_rule_is_a_case_with_its_name() -> None:
    (mark,) = check_method("coop").pytestmark  # type: ignore[attr-defined]
    assert mark.args == ("check", METHOD_CHECKS) and mark.kwargs["ids"] == list(CHECKS)
    assert len(CHECKS) == len(METHOD_CHECKS) > 30
    assert all(check.rule.endswith(".") for check in METHOD_CHECKS)


def test_a_broken_rule_fails_in_words() -> None:
    test = check_method(StateRoundTrip, config=CoOpConfig, n_ctx=2)
    with pytest.raises(pytest.fail.Exception, match=r"(?s)logits differ by .*rule: A new method.*next step: make all"):
        test(CHECKS["state_round_trip"])


@pytest.mark.parametrize("name", ["loss_is_a_finite_scalar", "towers_in_bf16", "resumes_bit_for_bit"])
def test_the_tiny_towers_stand_in_for_a_teacher(name: str, tiny_backbone: Backbone) -> None:
    with pytest.raises(UsageError, match="teacher 'nowhere/to-be-found' cannot be loaded"):
        Taught(tiny_backbone, ["cat"], CoOpConfig()).teacher("nowhere/to-be-found")
    check_method(Taught, config=CoOpConfig, n_ctx=2)(CHECKS[name])


def test_what_does_not_apply_is_skipped() -> None:
    with pytest.raises(pytest.skip.Exception, match="it is not fitted in closed form"):
        check_method("coop")(CHECKS["closed_form_fits"])


def test_parameters_without_a_gradient_can_be_declared() -> None:
    check = CHECKS["gradients_reach_all_it_learns"]
    check_method(Choosy, config=CoOpConfig)(check)
    with pytest.raises(pytest.fail.Exception, match="no gradient reaches 'idle'"):
        check_method(GradientsReachAllItLearns, config=CoOpConfig)(check)


def test_a_class_is_unknown_again_afterwards() -> None:
    before = plugins.host().methods.names()
    check_method(Fine, config=CoOpConfig)(CHECKS["says_what_it_is"])
    assert plugins.host().methods.names() == before


def test_names_and_classes_that_cannot_be_tried() -> None:
    with pytest.raises(UsageError, match="unknown method 'cop'"):
        check_method("cop")(CHECKS["one_image"])

    class Local(CoOp):
        """Nobody can import it."""

    with pytest.raises(UsageError, match="stands within a function"):
        check_method(Local, config=CoOpConfig)(CHECKS["one_image"])


def test_without_pytest_there_is_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest", None)  # what an absent module looks like
    with pytest.raises(InputError, match=r"vlmprompt\.testing needs pytest") as caught:
        check_method("coop")
    assert caught.value.hint == "pip install pytest"


# -- fixtures --------------------------------------------------------------------------------------------
def test_tiny_towers(tiny_backbone: Backbone, tiny_resnet: Backbone) -> None:
    assert (tiny_backbone.vision.n_local, tiny_resnet.vision.n_local) == (16, 4)
    build_method("vpt", tiny_backbone, ["cat"])
    with pytest.raises(CapabilityError):
        build_method("vpt", tiny_resnet, ["cat"])


def test_a_command_trains_on_the_photos(
    command: Callable[..., fixtures.Finished], tiny_photos: Path, tiny_spec: None, tmp_path: Path
) -> None:
    where = ["--data", f"folder:{tiny_photos}", "--backbone", "tiny-vit", "--out", str(tmp_path / "run")]
    done = command("train", "--method", "coop", *where, "--shots", "2", "--max-steps", "2", "--workers", "0")
    assert done.code == 0 and (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert command("methods", "show", "cop").code == 2
    assert "did you mean 'coop'" in command("methods", "show", "cop").err


def test_the_chat_server_is_asked(chat_server: Any) -> None:
    from vlmprompt.describe.providers.openai import OpenAIConfig, OpenAIProvider

    async def ask() -> str:
        provider = OpenAIProvider(OpenAIConfig(model="m-1"))
        reply = await provider.ask(Question(0, "owl", "features for distinguishing a owl in a photo?", "phrase"))
        await provider.close()
        return reply.text

    assert "the tail of item owl" in asyncio.run(ask())
    assert [request.name for request in chat_server.requests] == ["owl"]


def test_only_the_plugins_that_are_named(only_plugins: Callable[..., plugins.PluginHost]) -> None:
    before = plugins.loaded_host()
    methods = only_plugins("vlmprompt-gallop").methods.names()
    assert {"gallop", "coop"} <= set(methods) and not {"bloom", "maple"} & set(methods)
    assert "gallop" not in only_plugins().methods.names()
    assert plugins.host() is not before
    with pytest.raises(pytest.fail.Exception, match="no plugin 'galop'; did you mean 'gallop'"):
        only_plugins("galop")


def test_all_plugins_are_back_afterwards() -> None:
    assert {"gallop", "bloom", "maple"} <= set(plugins.host().methods.names())
