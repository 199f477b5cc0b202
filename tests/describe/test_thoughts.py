"""What a model wrote to be read, told apart from its thoughts and from the marks of its chat format."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmprompt.describe.thoughts import MARKS, THOUGHTS, UnclearError, spoken

LIST = "- a tail\n- ears"
HARMONY = "<|channel|>analysis<|message|>The user asks.<|end|><|start|>assistant<|channel|>final<|message|>"
WITH_THOUGHTS = [
    f"<think>Hm.</think>\n{LIST}",
    f"Okay, the user asks. A tail?</think>\n\n{LIST}",
    f"First.</think>Second.</think>{LIST}",
    f"<think>Hm. <think>Twice.</think>{LIST}",
    f"<think>I must not write <|im_end|> or <answer> here.</think>{LIST}",
    f"<thinking effort='high'>Hm.</thinking>{LIST}",
    f"<thought>Hm.</thought>{LIST}",
    f"<THINK>Hm.</Think>{LIST}",
    f"<internal_thoughts>Hm.</internal_thoughts>{LIST}",
    f"<thought_process>Hm.</thought_process>{LIST}",
    f"\\<think\\>Hm.\\</think\\>{LIST}",
    f"<reasoning>Hm.</reasoning>{LIST}",
    f"<reflection>Hm.</reflection>{LIST}",
    f"<seed:think>Hm.</seed:think>{LIST}",
    f"[THINK]Hm.[/THINK]{LIST}",
    f"\u25c1think\u25b7Hm.\u25c1/think\u25b7{LIST}",
    f"&lt;think&gt;Hm.&lt;/think&gt;{LIST}",
    f"<|begin_of_thought|>Hm.<|end_of_thought|><|begin_of_solution|>{LIST}<|end_of_solution|>",
    f"<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>{LIST}<|END_RESPONSE|>",
    f"<think>Hm.</think><answer>{LIST}</answer> I hope that helps.",
    f'<details type="reasoning" done="true"><summary>Thought for 3 s</summary>Hm.</details>{LIST}',
    f"{HARMONY}{LIST}<|return|>",
    f"{HARMONY}{LIST}",
    f"<|channel|>analysis Hm.<|channel|>final\n{LIST}",
    f"<|channel|>analysis<|message|>Hm.<|end|><|channel|>final <|constrain|>json<|message|>{LIST}<|end|>",
    f"<|channel>thought\nHm.<channel|>{LIST}<turn|>",
    f"analysisWe need a list.assistantfinal{LIST}",
]
WITH_MARKS = [
    f"{LIST}<|im_end|>",
    f"<|im_start|>assistant\n{LIST}<|im_end|>\n<|im_start|>user\nAnd a frog?<|im_end|>",
    f"<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\n{LIST}",
    f"<|start_header_id|>assistant<|end_header_id|>\n\n{LIST}<|eot_id|>",
    f"{LIST}<|eot_id|><|start_header_id|>user<|end_header_id|>More?",
    f"{LIST}</s>",
    f"<s>{LIST}</s>",
    f"{LIST}<|endoftext|>- a question",
    f"{LIST}<end_of_turn>\n<start_of_turn>user\nMore?",
    f"<start_of_turn>model\n{LIST}<end_of_turn>",
    f"{LIST}<\uff5cend\u2581of\u2581sentence\uff5c>",
    f"<\uff5cUser\uff5c>What is it?<\uff5cAssistant\uff5c>{LIST}",
    f"[INST]What is it?[/INST]{LIST}",
    f"{LIST}<|user|>\nMore?",
    f"{LIST}<|a_mark_of_next_year|>",
    f"<|a_mark_of_next_year|>{LIST}",
    f"<|channel|>final<|message|>{LIST}",
]
UNCLEAR = {
    "<think>Hm": "its thoughts have no end",
    "Hm<think>Hm": "its thoughts have no end",
    f"{LIST}\n<thinking>Is that all?": "its thoughts have no end",
    "<think>Hm.</think>": "its thoughts, and no answer",
    "Hm.</think>": "its thoughts, and no answer",
    "<think></think>\n": "its thoughts, and no answer",
    "<|channel|>analysis<|message|>Hm": "ends before an answer begins",
    "<|channel|>analysis<|message|>Hm<|end|>": "its thoughts, and no answer",
    '<|channel|>commentary to=functions.f<|message|>{"a": 1}<|call|>': "its thoughts, and no answer",
    "analysisWe need a list.": "its thoughts, and no answer",
    '<tool_call>{"name": "f"}</tool_call>': "it calls a tool",
    '[TOOL_CALLS][{"name": "f"}]': "it calls a tool",
    "<\uff5ctool\u2581calls\u2581begin\uff5c>": "it calls a tool",
    "- a tail<|a_mark_of_next_year|>- ears": "it has <|a_mark_of_next_year|> within its text",
}


@pytest.mark.parametrize("text", WITH_THOUGHTS)
def test_thoughts(text: str) -> None:
    found = spoken(text)
    assert found.text.strip() == LIST and THOUGHTS in found.left_out


@pytest.mark.parametrize("text", WITH_MARKS)
def test_marks(text: str) -> None:
    found = spoken(text)
    assert found.text.strip() == LIST and found.left_out == (MARKS,)


@pytest.mark.parametrize(("text", "reason"), UNCLEAR.items())
def test_where_it_cannot_be_told(text: str, reason: str) -> None:
    with pytest.raises(UnclearError, match=reason.replace("|", r"\|")):
        spoken(text)


def test_thoughts_between() -> None:
    assert spoken("- a tail <think>b</think>\n- ears").text == "- a tail \n- ears"


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<|end|>", "<|x|>", "<|channel|>final<|message|>", "a "]), max_size=9
    )
)
def test_no_mark_stays_in_what_is_read(parts: list[str]) -> None:
    try:
        found = spoken("".join(parts))
    except UnclearError as error:
        assert str(error)
    else:
        assert "<" not in found.text


@settings(max_examples=60)
@given(st.text(alphabet="abc ,.-\n[]()", max_size=80))
def test_what_has_no_marks_is_as_it_was(text: str) -> None:
    assert spoken(text).text == text
