"""Which classes are to be described, and who is asked for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli.options import AcceptSplitFlag, DataOption, RootOption
from vlmprompt.errors import UsageError

if TYPE_CHECKING:
    from vlmprompt.data.records import Dataset
    from vlmprompt.describe.order import Order

_WHO = "Language model and question"
_HOW = "Requests"


def _who(*names: str, text: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=_WHO, **more)


def _how(name: str, text: str, **more: Any) -> Any:
    return typer.Option(name, help=text, rich_help_panel=_HOW, **more)


@dataclass(frozen=True, kw_only=True)
class ClassFlags:
    """The classes: of a data set, of a file, or the built-in ones."""

    data: DataOption = None
    classes: Annotated[Path | None, typer.Option("--classes", help="File with one class name per line.")] = None
    root: RootOption = None
    class_names: Annotated[
        Path | None, typer.Option("--class-names", help="Names instead of those of --data, one per line.")
    ] = None
    accept_split: AcceptSplitFlag = False

    @property
    def built_in(self) -> bool:
        """Whether nobody has named any."""
        return self.data is None and self.classes is None

    def dataset(self, aliases: Path | None) -> Dataset:
        """The classes as a run with these aliases calls them; JSON concerns the names in --from alone.

        Raises:
            UsageError: they are named twice.
            InputError: a file cannot be read; see `load_dataset`.
        """
        dataset = self._as_named()
        if aliases is None or aliases.suffix.lower() == ".json":
            return dataset
        from vlmprompt.data.aliases import Aliases

        return Aliases.read(aliases, self.root).renamed(dataset)

    def _as_named(self) -> Dataset:
        from vlmprompt.config.keys import RUN_FIELDS
        from vlmprompt.data.load import load_dataset
        from vlmprompt.data.names import read_names
        from vlmprompt.data.records import Dataset

        if self.classes is None:
            spec = self.data or RUN_FIELDS["data"].get_default()
            more: dict[str, Any] = {"class_names_file": self.class_names, "accept_split": self.accept_split}
            return load_dataset(spec, root=self.root, need_images=False, **more)
        if self.data is not None or self.class_names is not None:
            other = "--data" if self.data is not None else "--class-names"
            raise UsageError(f"--classes and {other} both name classes", hint="give one of them")
        names, _ = read_names(self.classes, self.root, distinct=False)
        return Dataset(self.classes.stem, f"--classes {self.classes}", names, {})


@dataclass(frozen=True, kw_only=True)
class AskedFlags:
    """Who is asked, for what, and how hard is tried."""

    provider: Annotated[str | None, _who("--provider", text="See 'vlmprompt providers list'; default openai.")] = None
    model: Annotated[str | None, _who("--model", text="Name of the model on the server.")] = None
    base_url: Annotated[
        str | None, _who("--base-url", text="Server that speaks OpenAI's chat completions; also OPENAI_BASE_URL.")
    ] = None
    template: Annotated[
        str | None, _who("--template", text="Question: features, descriptors, sentences, or a file.")
    ] = None
    from_: Annotated[Path | None, _who("--from", text="JSON file that the provider 'file' imports.")] = None
    aliases: Annotated[
        Path | None, _who("--aliases", text="Lines 'old = new': other names for classes, in --data and --from.")
    ] = None
    set_: Annotated[
        list[str] | None,
        _who("--set", "-s", text="Option of the provider, such as temperature=0.2.", metavar="KEY=VALUE"),
    ] = None
    samples: Annotated[int, _who("--samples", text="Answers per question.", min=1, max=1000)] = 1
    min_phrases: Annotated[
        int, _who("--min-phrases", text="Minimum number of descriptions per class.", min=1, max=100_000)
    ] = 1
    limit: Annotated[int | None, _who("--limit", text="Only this many classes, from the first.", min=1)] = None
    concurrency: Annotated[int, _how("--concurrency", "Requests at the same time.", min=1, max=1000)] = 16
    max_retries: Annotated[int, _how("--max-retries", "Further requests after a failed one.", min=0, max=1000)] = 6
    timeout: Annotated[float, _how("--timeout", "Seconds for one answer.", min=0.001, max=86_400)] = 60.0

    @property
    def of_nobody(self) -> bool:
        """Whether neither anybody nor a question is named."""
        return self.provider is None and self.template is None and not self.set_ and not self._options

    def idle(self, *, force: bool) -> list[str]:
        """The flags that mean nothing where nobody is asked."""
        of_orders = {"--samples": self.samples > 1, "--min-phrases": self.min_phrases > 1, "--limit": self.limit}
        return [flag for flag, given in {**of_orders, "--force": force}.items() if given]

    def order(self, dataset: Dataset, *, out: Path, force: bool) -> Order:
        """What the flags ask for.

        Raises:
            UsageError: no such provider or option.
        """
        from vlmprompt.describe.asking import Limits
        from vlmprompt.describe.order import Order
        from vlmprompt.describe.work import ClassList

        name = self.provider or ("file" if self.from_ else "openai")
        return Order(
            classes=ClassList(dataset.name, dataset.class_names, self.limit),
            provider=name,
            options=self._options | read_options(name, self.set_ or ()),
            template=self.template,
            samples=self.samples,
            min_phrases=self.min_phrases,
            limits=Limits(concurrency=self.concurrency, max_retries=self.max_retries, timeout_s=self.timeout),
            out=out,
            force=force,
        )

    @property
    def _options(self) -> dict[str, Any]:
        """Options of the provider that have flags of their own."""
        reads = self.provider == "file" or (self.provider is None and self.from_ is not None)
        aliases = self.aliases if reads else None
        flags = {"model": self.model, "base_url": self.base_url, "file": self.from_, "aliases": aliases}
        return {key: value for key, value in flags.items() if value is not None}


def read_options(provider: str, assignments: Sequence[str]) -> dict[str, Any]:
    """What `--set` says, each value as its option takes it."""
    from vlmprompt.config.keys import read_value
    from vlmprompt.config.layers import set_layer
    from vlmprompt.plugins import host

    model = host().llm_providers.get(provider).load_config()
    fields = {} if model is None else model.model_fields
    said = set_layer(assignments).values
    return {k: read_value(k, v, fields[k], source="--set") if k in fields else v for k, v in said.items()}
