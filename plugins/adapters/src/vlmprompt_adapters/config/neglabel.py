"""Options of NegLabel."""

from __future__ import annotations

from vlmprompt.api import Field, ScoreConfig

WHERE = (
    "a text file with a word a line, nouns first, adjectives below a line [adjectives]; or the folder of WordNet's "
    "index.noun and index.adj (Debian's wordnet-base has it as /usr/share/wordnet); or 'demo', some words for a trial"
)


class NegLabelConfig(ScoreConfig):
    """Options of NegLabel."""

    negatives: str = Field(description=f"candidates for negative labels: {WHERE}; paper: 70,000 words of WordNet")
    groups: int = Field(
        1,
        ge=1,
        le=10_000,
        description="groups of negative labels whose scores are averaged; 1: all of them at once, as the formula is. "
        "Official code: 100",
    )
    top: float = Field(
        0.15,
        gt=0,
        le=1,
        description="share of the candidates that is kept, those least like the classes; official code: 0.15",
    )
