"""The checks of prompt-learning methods, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from vlmprompt.conformance import material
from vlmprompt.conformance.check import Check, checks
from vlmprompt.conformance.methods import batches, capabilities, classes, declared, dividing, learning, runs, state
from vlmprompt.conformance.methods.case import MethodCase
from vlmprompt.methods.teachers import standing_in

Attempt = Callable[[MethodCase], None]


def _taught(attempt: Attempt) -> Attempt:
    """The same check with the tiny towers for every teacher, whose weights nobody has where checks run."""

    @wraps(attempt)
    def taught(case: MethodCase) -> None:
        with standing_in(material.towers()):
            attempt(case)

    return taught


METHOD_CHECKS: tuple[Check[MethodCase], ...] = checks(
    *map(
        _taught,
        (
            declared.says_what_it_is,
            declared.describes_its_options,
            declared.refuses_unknown_options,
            declared.keeps_its_options_in_json,
            declared.ships_valid_settings,
            learning.same_seed_same_bytes,
            learning.leaves_global_randomness_alone,
            learning.loss_is_a_finite_scalar,
            learning.gradients_reach_all_it_learns,
            learning.towers_stay_as_they_are,
            learning.weights_act_on_the_loss,
            state.state_round_trip,
            state.evaluation_changes_nothing,
            state.frozen_is_as_evaluated,
            state.deep_copies_are_independent,
            state.learns_after_inference_mode,
            batches.logits_are_finite,
            batches.one_image,
            batches.images_do_not_depend_on_each_other,
            batches.one_class,
            batches.towers_in_bf16,
            classes.permuted_classes_permute_logits,
            classes.serves_new_classes,
            classes.class_lists_go_there_and_back,
            classes.several_names_of_a_class,
            classes.descriptions_are_declared,
            capabilities.cached_features_are_as_good,
            capabilities.local_features_are_there,
            capabilities.text_depends_on_the_image,
            capabilities.has_something_to_learn,
            capabilities.closed_form_fits,
            dividing.images_of_a_batch_are_apart,
            dividing.classes_are_apart,
            runs.same_run_same_checkpoint,
            runs.resumes_bit_for_bit,
        ),
    )
)
