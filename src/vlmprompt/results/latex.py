"""Result rows as tables of LaTeX, to be pasted into a paper."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from vlmprompt import shown
from vlmprompt.results.numbers import MISSING
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.tables import SummaryTable, summarise

HEAD = r"% needs \usepackage{booktabs}"
LOWER = "↓"
_NUMBER = re.compile(r"(?P<mean>-?[\d.]+(?:e[+-]\d+)?)(?: ± (?P<std>[\d.]+(?:e[+-]\d+)?))?(?P<marks>(?: ?\[\d+\])*)")
_BETWEEN_HYPHENS = re.compile(r"(?<=-)(?=-)")
_MARKS = re.compile(r" ?((?:\[\d+\])+)$")
# Braces around brackets and stars: behind a line's end they would be its arguments.
_ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",  # \textquotedbl is unknown in OT1, the encoding of a document that names none
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "–": "--",
    "…": r"\dots{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


class LatexReporter:
    """Tables with booktabs' rules: the best number of a column bold, the second underlined.

    Compared is what is shown, so that numbers that look equal are marked alike; where a table has several numbers of
    shots, those of each are compared among themselves. A column in which all are equal has no best one.
    """

    def render(self, rows: Sequence[ResultRow], *, width: int | None = None) -> str:
        """See `Reporter.render`; the width does not matter."""
        met: Counter[str] = Counter()
        tables = []
        for table in summarise(rows):
            label = _label(table.title)
            met[label] += 1
            # Titles that differ in letters that labels do not have, or behind their end.
            tables.append(as_latex(table, label if met[label] == 1 else f"{label}--{met[label]}"))
        return "\n\n".join([HEAD, *tables]) if tables else "% no results"


def as_latex(table: SummaryTable, label: str | None = None) -> str:
    """One table, with its caption and notes; without a label it has that of its title."""
    marks = _marks(table)
    alignment = "l" * table.labels + "r" * (len(table.columns) - table.labels)
    lines = [
        r"\begin{table}[tb]",
        r"  \centering",
        rf"  \caption{{{_caption(table, marks)}}}",
        rf"  \label{{{label or _label(table.title)}}}",
        rf"  \begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
        r"    \toprule",
        f"    {_line([escaped(column) for column in table.columns])}",
        r"    \midrule",
    ]
    for i, row in enumerate(table.rows):
        cells = [_cell(cell, marks.get((i, j), "")) for j, cell in enumerate(row)]
        lines.append(f"    {_line(cells)}")
    if table.images:
        lines += [r"    \midrule", f"    {_line([escaped(cell) for cell in table.images])}"]
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    for number, note in enumerate(table.footnotes, 1):
        lines.append(rf"  \par\smallskip{{\footnotesize\textsuperscript{{{number}}} {escaped(note)}}}")
    return "\n".join([*lines, r"\end{table}"])


def escaped(text: str) -> str:
    """A text that LaTeX prints as it is, in one line; of two hyphens, as of options, it would make a dash."""
    parts = _BETWEEN_HYPHENS.split(" ".join(shown.line(text).split()))
    return "{}".join("".join(_ESCAPED.get(sign, sign) for sign in part) for part in parts)


def _line(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _caption(table: SummaryTable, marks: dict[tuple[int, int], str]) -> str:
    parts = [table.title, _sentence(table.caption)]
    if marks:
        group = " of each number of shots" if _shots_column(table) is not None else ""
        parts.append(f"Best{group} bold, second underlined")
    return " ".join(f"{escaped(part)}." for part in parts if part)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _label(title: str) -> str:
    return f"tab:{re.sub(r'[^A-Za-z0-9]+', '-', title).strip('-').lower()[:80]}"


def _cell(text: str, command: str) -> str:
    """A cell; references to notes are raised."""
    number = _NUMBER.fullmatch(text)
    if number is not None:
        mean = number["mean"].replace("-", "$-$")
        mean = f"\\{command}{{{mean}}}" if command else mean
        std = rf" $\pm$ {number['std']}" if number["std"] else ""
        return f"{mean}{std}{_raised(number['marks'].strip())}"
    found = _MARKS.search(text)
    return escaped(text) if found is None else f"{escaped(text[: found.start()])}{_raised(found[1])}"


def _raised(marks: str) -> str:
    numbers = re.findall(r"\d+", marks)
    return rf"\textsuperscript{{{','.join(numbers)}}}" if numbers else ""


def _shots_column(table: SummaryTable) -> int | None:
    """Where shots stand, if rows with different ones are in the table."""
    heads = table.columns[: table.labels]
    if "shots" not in heads:
        return None
    place = heads.index("shots")
    return place if len({row[place] for row in table.rows} - {MISSING}) > 1 else None


def _marks(table: SummaryTable) -> dict[tuple[int, int], str]:
    """Row and column of what is marked -> the command for it."""
    shots = _shots_column(table)
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(table.rows):
        groups.setdefault("" if shots is None else row[shots], []).append(i)
    marks: dict[tuple[int, int], str] = {}
    for j in range(table.labels, len(table.columns)):
        for group in groups.values():
            values = {i: value for i in group if (value := _shown_number(table.rows[i][j])) is not None}
            ranks = sorted(set(values.values()), reverse=LOWER not in table.columns[j])
            if len(ranks) > 1:
                commands = {ranks[0]: "textbf", ranks[1]: "underline"}
                marks |= {(i, j): commands[value] for i, value in values.items() if value in commands}
    return marks


def _shown_number(text: str) -> Decimal | None:
    """The mean that a cell shows, None where there is none."""
    found = _NUMBER.fullmatch(text)
    return None if found is None else Decimal(found["mean"])
