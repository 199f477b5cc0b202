"""Tables of LaTeX: what is marked, what is escaped, and that they are whole."""

from __future__ import annotations

import re

import pytest
from result_rows import row

from vlmprompt.results.latex import LatexReporter, as_latex, escaped
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.tables import SummaryTable

METRICS = {"top1": {"coop": 0.612, "bloom": 0.643}, "ece_15": {"coop": 0.031, "bloom": 0.052}}


def table(*rows: tuple[str, ...], columns: tuple[str, ...] = ("method", "top1"), labels: int = 1) -> SummaryTable:
    return SummaryTable("accuracy on photos (%)", columns, labels, rows, "")


def marked(text: str) -> dict[str, str]:
    """What is bold and what underlined, number -> command."""
    return {number: command for command, number in re.findall(r"\\(textbf|underline)\{([^}]*)\}", text)}


def test_a_whole_table() -> None:
    rows = [
        row(run=f"{method}{seed}", method=method, seed=seed, metric=metric, value=value + 0.01 * (seed - 2))
        for metric, values in METRICS.items()
        for method, value in values.items()
        for seed in (1, 2, 3)
    ]
    rows = [r.model_copy(update={"higher_is_better": r.metric != "ece_15"}) for r in rows]
    rows.append(row(method="zero_shot", seed=None, shots=None, value=None, status="failed", note="100% gone"))
    assert LatexReporter().render(rows) == "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            "",
            r"\begin{table}[tb]",
            r"  \centering",
            r"  \caption{accuracy on photos, ViT-B-32-quickgelu (\%). Mean $\pm$ sample standard deviation (ddof=1) "
            r"over seeds; $\downarrow$ lower is better. Best bold, second underlined.}",
            r"  \label{tab:accuracy-on-photos-vit-b-32-quickgelu}",
            r"  \begin{tabular}{@{}lllrr@{}}",
            r"    \toprule",
            r"    method & shots & seeds & top1 & ece 15 $\downarrow$ \\",
            r"    \midrule",
            r"    coop & 16 & 3 & \underline{61.20} $\pm$ 1.00 & \textbf{3.10} $\pm$ 1.00 \\",
            r"    bloom & 16 & 3 & \textbf{64.30} $\pm$ 1.00 & \underline{5.20} $\pm$ 1.00 \\",
            r"    zero\_shot & -- & -- & failed\textsuperscript{1} & -- \\",
            r"    \midrule",
            r"    images &  &  & 100 & 100 \\",
            r"    \bottomrule",
            r"  \end{tabular}",
            r"  \par\smallskip{\footnotesize\textsuperscript{1} failed: 100\% gone}",
            r"\end{table}",
        ]
    )


def test_equal_numbers_are_marked_alike() -> None:
    text = as_latex(table(("a", "61.20"), ("b", "61.20 ± 0.50"), ("c", "59.00"), ("d", "59.00"), ("e", "12.00")))
    assert text.count(r"\textbf{61.20}") == 2 and text.count(r"\underline{59.00}") == 2
    assert set(marked(text)) == {"61.20", "59.00"}


def test_where_all_are_equal_none_is_best() -> None:
    text = as_latex(table(("a", "61.20"), ("b", "61.20")))
    assert marked(text) == {} and "old" not in text


@pytest.mark.parametrize(("header", "best", "second"), [("top1", "9.5", "-1.25"), ("nll ↓", "-3", "-1.25")])
def test_numbers_are_compared_as_numbers(header: str, best: str, second: str) -> None:
    text = as_latex(table(("a", "9.5"), ("b", "-1.25"), ("c", "-3"), ("d", "n/a [1]"), columns=("method", header)))
    shown = {number.replace("-", "$-$"): command for number, command in ((best, "textbf"), (second, "underline"))}
    assert marked(text) == shown


def test_very_small_numbers() -> None:
    assert marked(as_latex(table(("a", "2.5e-06"), ("b", "1.5e-05"), columns=("m", "loss ↓")))) == {
        "2.5e$-$06": "textbf",
        "1.5e$-$05": "underline",
    }


def test_numbers_of_shots_are_compared_among_themselves() -> None:
    rows = (("a", "1", "50.00"), ("b", "1", "60.00"), ("a", "16", "70.00"), ("b", "16", "65.00"), ("z", "–", "90.00"))
    text = as_latex(table(*rows, columns=("method", "shots", "top1"), labels=2))
    assert marked(text) == {"60.00": "textbf", "50.00": "underline", "70.00": "textbf", "65.00": "underline"}
    assert "Best of each number of shots bold" in text
    one = as_latex(table(*rows[2:], columns=("method", "shots", "top1"), labels=2))
    assert marked(one) == {"90.00": "textbf", "70.00": "underline"}


def test_every_special_character_is_escaped() -> None:
    assert escaped(r"\ & % $ # _ { } ~ ^ < > | [ ] *") == (
        r"\textbackslash{} \& \% \$ \# \_ \{ \} \textasciitilde{} \textasciicircum{} \textless{} \textgreater{} "
        r"\textbar{} {[} {]} {*}"
    )
    assert escaped('--set a="b", 1–2') == r"-{}-set a=\char34{}b\char34{}, 1--2"  # no dash but where there was one
    assert escaped("---") == "-{}-{}-"
    assert escaped("a\nb\x1b[0m é") == r"a b\textbackslash{}u001b{[}0m é"


def test_names_cannot_become_commands() -> None:
    evil = [r"[2cm]\input{secret}", "*&%", "$x$_{y}", r"\end{table}"]
    rows: list[ResultRow] = [row(method=name, run=name, value=i / 10) for i, name in enumerate(evil)]
    text = LatexReporter().render(rows)
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    # Behind \\ a bracket would be a length and a star an option: no line begins with one.
    assert all(not line.strip().startswith(("[", "*")) for line in body)
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {2}
    assert r"\input" not in text and text.count(r"\end{table}") == 1 and "secret" in text
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0


def test_no_rows() -> None:
    assert LatexReporter().render([]) == "% no results"


def test_every_table_has_a_label_of_its_own() -> None:
    text = LatexReporter().render([row(run=str(i), dataset=name) for i, name in enumerate(("花", "鳥", "photos"))])
    labels = re.findall(r"\\label\{([^}]*)\}", text)
    assert labels[:3] == [
        "tab:accuracy-on-vit-b-32-quickgelu",
        "tab:accuracy-on-vit-b-32-quickgelu--2",
        "tab:accuracy-on-photos-vit-b-32-quickgelu",
    ]
    assert len(set(labels)) == len(labels) == 4
