"""What a number depends on: as a key that reruns skip by, and as text for people."""

from __future__ import annotations

from vlmprompt.config.models import FeatureDtype
from vlmprompt.digests import digest_of
from vlmprompt.distributions import code_version
from vlmprompt.evaluation.contract import Cell, Suite
from vlmprompt.evaluation.streams import stream_parts
from vlmprompt.evaluation.subject import Subject
from vlmprompt.evaluation.variants import unusual
from vlmprompt.plugins import CORE, host
from vlmprompt.results.rows import BACKBONE_DIGEST, DATA, DATA_DIGEST, TEMPERATURE

_DIGITS = 12  # of digests that only tell a few things apart


def key_of(
    subject: Subject,
    suite: Suite,
    cell: Cell,
    data_digest: str,
    backbone_digest: str,
    features: FeatureDtype = "fp32",
) -> str:
    """SHA-256 of everything that the numbers of a cell depend on.

    Args:
        features: type that image features are rounded to.
    """
    content = {
        "config": subject.config.model_dump(mode="json"),
        "learned": subject.digest,
        "backbone": backbone_digest,
        "data": data_digest,
        "suite": suite.name,
        "version": suite.version,
        "code": _code(subject.config.method, suite),
        "cell": cell.name,
        "parts": cell.parts,
        **stream_parts(subject.config),
    }
    if features != "fp32":
        content["features"] = features
    if subject.temperature is not None:
        content["temperature"] = subject.temperature
    return digest_of(content)


def listing_of(cells: list[str]) -> str:
    """See `ResultRow.listing`."""
    return digest_of(cells)[:_DIGITS]


def setup_of(
    subject: Subject,
    suite: Suite,
    data: str,
    data_digest: str,
    backbone_digest: str,
    features: FeatureDtype = "fp32",
) -> dict[str, str]:
    """See `ResultRow.setup`; `data` is the spec of what is measured on."""
    config = subject.config
    code = ", ".join(f"{name} {version}" for name, version in sorted(_code(config.method, suite).items()))
    digests = {DATA_DIGEST: data_digest, BACKBONE_DIGEST: backbone_digest}
    if subject.descriptions is not None:
        digests["descriptions"] = subject.descriptions.digest
    short = {name: digest[:_DIGITS] for name, digest in digests.items()}
    at = {} if subject.temperature is None else {TEMPERATURE: f"{subject.temperature:.6g}"}
    rounded = {} if features == "fp32" else {"features": features}
    return unusual(config) | {DATA: data, "code": code} | short | at | rounded


def _code(method: str, suite: Suite) -> dict[str, str]:
    """Versions of the distributions that a number comes from: the core, the method's and the suite's."""
    entries = host().methods.get(method), host().suites.get(suite.name.partition(":")[0])
    return {name: code_version(name) for name in {CORE, *(entry.distribution for entry in entries)}}
