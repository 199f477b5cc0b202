"""Every check of methods fails on a method that breaks its rule, and says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testing import broken_methods
from vlmprompt.conformance.methods import METHOD_CHECKS
from vlmprompt.conformance.methods.case import MethodCase
from vlmprompt.plugins import host
from vlmprompt.registry import Source

HERE = broken_methods.__name__
ACME = Source("acme", "acme-prompts", "1.2.3")
COOP = "vlmprompt.methods.config:CoOpConfig"
CONFIGS = {
    "describes_its_options": f"{HERE}:Silent",
    "refuses_unknown_options": f"{HERE}:Lenient",
    "keeps_its_options_in_json": f"{HERE}:Growing",
}

# What the reason says, and what the next step says.
SAID = {
    "says_what_it_is": ("class SaysWhatItIs has no docstring", "its formula and its paper"),
    "describes_its_options": ("no description of the options colour", "Field(default, description=...)"),
    "refuses_unknown_options": ("Lenient takes an option 'no_such_option'", 'extra="forbid"'),
    "keeps_its_options_in_json": ("option 'count' does not come back from run.json", ""),
    "ships_valid_settings": ("overrides.toml [dataset=photos] is not allowed: 1 validation error", "correct the value"),
    "same_seed_same_bytes": ("initial values of 'ctx' differ", "self.generator"),
    "leaves_global_randomness_alone": ("global random state of random was used", "self.generator"),
    "loss_is_a_finite_scalar": ("the loss's 'ratio' is nan", "guard logarithms and divisions"),
    "gradients_reach_all_it_learns": ("no gradient reaches 'idle' in 4 steps", "without_gradient"),
    "towers_stay_as_they_are": ("weights of the towers have changed", "never write into backbone tensors"),
    "weights_act_on_the_loss": ("weights of images change nothing", "vlmprompt.api.cross_entropy"),
    "state_round_trip": ("after the state was saved and loaded", "persistent buffer"),
    "evaluation_changes_nothing": ("changed tensor 'seen'", "self.training"),
    "frozen_is_as_evaluated": ("of a cosine from those of the method in eval mode", "image_conditioned"),
    "deep_copies_are_independent": ("says something else when its origin changes", "parameters, buffers or in modules"),
    "learns_after_inference_mode": ("Inference tensors cannot be saved", "inference_mode(False)"),
    "logits_are_finite": ("not finite in evaluation", "guard divisions"),
    "one_image": ("single image are not finite", "no statistics over the batch"),
    "images_do_not_depend_on_each_other": ("from those of the images one by one", "no statistics over the batch"),
    "one_class": ("single class are not finite", "K - 1"),
    "towers_in_bf16": ("logits are torch.bfloat16", "vlmprompt.api.unit"),
    "permuted_classes_permute_logits": ("classes in another order", "renew"),
    "serves_new_classes": ("with_classes is 0.", "drop new_classes"),
    "class_lists_go_there_and_back": ("logits are not what they were", "renew"),
    "several_names_of_a_class": ("several names are refused: one name a class", "drop several_names"),
    "descriptions_are_declared": ("with descriptions 'ctx' is learned otherwise", "reads_descriptions"),
    "cached_features_are_as_good": ("logits of stored features", "image_extra"),
    "local_features_are_there": ("the output has none", "local="),
    "text_depends_on_the_image": ("text features are (1, 4, 32)", "(B,P,K,d)"),
    "has_something_to_learn": ("but ctx would be trained", "drop training_free"),
    "closed_form_fits": ("fit changed nothing", "set what is learned"),
    "images_of_a_batch_are_apart": ("the loss of a batch is", "drop row_split"),
    "classes_are_apart": ("text features of parts of the classes are", "drop class_shard"),
    "same_run_same_checkpoint": ("different checkpoints", "self.generator"),
    "resumes_bit_for_bit": ("ends with another tensor 'ctx'", "persistent buffer"),
}


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Iterator[MethodCase]:
    """The method that breaks the rule of a name, as a plugin would bring it."""
    rule: str = request.param
    cls = rule.title().replace("_", "")
    host().methods.register(
        "slip",
        target=f"{HERE}:{cls}",
        config=CONFIGS.get(rule, COOP),
        summary="CoOp with a slip",
        overrides="tests.testing:overrides.toml" if rule == "ships_valid_settings" else None,
        source=ACME,
    )
    yield MethodCase("slip", {"n_ctx": 2})
    host().methods.withdraw(ACME)


@pytest.mark.parametrize(("case", "rule"), [(rule, rule) for rule in SAID], indirect=["case"], ids=list(SAID))
def test_a_broken_rule_is_found(case: MethodCase, rule: str) -> None:
    (check,) = [check for check in METHOD_CHECKS if check.name == rule]
    outcome = check.outcome(case)
    reason, step = SAID[rule]
    assert outcome.status == "failed"
    assert reason in outcome.reason and step in str(outcome.step)
    assert outcome.rule and outcome.trace == ()


def test_every_check_has_a_method_that_breaks_it() -> None:
    assert [check.name for check in METHOD_CHECKS] == list(SAID)
