"""What the core itself provides, through the same hooks as any plugin; the built-in world is `vlmprompt.doodles`."""

from __future__ import annotations

from vlmprompt.hookspecs import Register, hookimpl


@hookimpl
def register_methods(register: Register) -> None:
    """Baselines."""
    for name, module, cls, summary, overrides in (
        ("zeroshot", "zeroshot", "ZeroShot", "CLIP's own zero-shot classifier; nothing is trained", None),
        ("descriptions", "descriptions", "Described", "zero-shot by descriptions of the classes", None),
        ("linear_probe", "linear_probe", "LinearProbe", "logistic regression on frozen image features", None),
        (
            "coop",
            "coop",
            "CoOp",
            "learned context words before the class name",
            "vlmprompt.methods:coop.toml",
        ),
    ):
        target = f"vlmprompt.methods.{module}:{cls}"
        config = f"vlmprompt.methods.config:{cls}Config"
        register(name, target=target, config=config, summary=summary, overrides=overrides)


@hookimpl
def register_backbones(register: Register) -> None:
    """Where towers come from."""
    register(
        "open_clip",
        target="vlmprompt.backbones.openclip.loader:OpenClipLoader",
        summary="any open_clip architecture and tag, a local checkpoint, or hf-hub:<repository>",
    )


@hookimpl
def register_datasets(register: Register) -> None:
    """Readers of labelled images."""
    register("folder", target="vlmprompt.data.folder:FolderReader", summary="one folder of images for each class")
    register("csv", target="vlmprompt.data.lists:CsvReader", summary="a list with columns path,label,split")
    register("json", target="vlmprompt.data.lists:JsonReader", summary="a list of objects path, label, split")
    register("coop", target="vlmprompt.data.coop.reader:CoopReader", summary="a benchmark; see 'vlmprompt data list'")
    register(
        "wds", target="vlmprompt.data.shards.reader:ShardReader", summary="webdataset shards: tar files of samples"
    )
    register(
        "hf", target="vlmprompt.data.hub.reader:HubReader", summary="a Hugging Face data set, by name or saved on disk"
    )


@hookimpl
def register_suites(register: Register) -> None:
    """What a run is evaluated on."""
    suites = "vlmprompt.evaluation.suites"
    register("accuracy", target=f"{suites}.accuracy:AccuracySuite", summary="accuracy on the test split")
    register(
        "validation",
        target=f"{suites}.validation:ValidationSuite",
        summary="accuracy on the val split, to choose settings by",
    )
    register(
        "base-to-new",
        target=f"{suites}.base_to_new:BaseToNewSuite",
        summary="accuracy on the base and the new half of the classes, and their harmonic mean",
    )
    register(
        "ood", target=f"{suites}.ood:OodSuite", summary="how well images of other things are told from the test split"
    )
    register("pointing", target=f"{suites}.pointing:PointingSuite", summary="whether local prompts look at the object")
    register(
        "parameters",
        target=f"{suites}.parameters:ParametersSuite",
        summary="how many numbers a method trains, and their share of the towers'",
    )
    register("prompts", target=f"{suites}.prompts:PromptsSuite", summary="how alike the prompts of a method are")
    register("few-shot", target=f"{suites}.few_shot:FewShotSuite", summary="accuracy as a curve over shots")
    register(
        "domain-generalization",
        target=f"{suites}.domain_generalization:DomainGeneralizationSuite",
        summary="accuracy on the same classes in other domains",
    )
    register(
        "cross-dataset",
        target=f"{suites}.cross_dataset:CrossDatasetSuite",
        summary="accuracy on other data sets with their own classes",
    )


@hookimpl
def register_scores(register: Register) -> None:
    """What tells images of known classes from all others."""
    for name, cls, summary in (
        ("mcm", "MCM", "the largest softmax of the cosines"),
        ("l-mcm", "LocalMCM", "the largest softmax of any patch's cosines"),
        ("gl-mcm", "GlobalLocalMCM", "the sum of mcm and l-mcm"),
        ("max-logit", "MaxLogit", "the largest cosine"),
        ("energy", "Energy", "the log-sum-exp of the cosines"),
        ("entropy", "Entropy", "minus the entropy of the softmax of the cosines"),
        ("var", "Variance", "the variance of the softmax of the cosines"),
        ("msp", "MSP", "the largest softmax of the logits"),
    ):
        register(name, target=f"vlmprompt.methods.own_scores:{cls}", summary=summary)


@hookimpl
def register_llm_providers(register: Register) -> None:
    """Where descriptions of classes come from."""
    for name, cls, summary in (
        ("openai", "OpenAIProvider", "asks any server that speaks OpenAI's chat completions"),
        ("file", "FileProvider", "imports descriptions that others have published"),
    ):
        module = f"vlmprompt.describe.providers.{name}"
        config = cls.replace("Provider", "Config")
        register(name, target=f"{module}:{cls}", config=f"{module}:{config}", summary=summary)


@hookimpl
def register_reporters(register: Register) -> None:
    """How results are shown."""
    reporters = "vlmprompt.results.reporters"
    register("terminal", target=f"{reporters}:TerminalReporter", summary="a table for people")
    register("markdown", target=f"{reporters}:MarkdownReporter", summary="a Markdown table")
    register("latex", target="vlmprompt.results.latex:LatexReporter", summary="LaTeX tables, for a paper")
    register("csv", target=f"{reporters}:CsvReporter", summary="the rows, one number a line")
    register("json", target=f"{reporters}:JsonReporter", summary="the rows as JSON")


@hookimpl
def register_trackers(register: Register) -> None:
    """Who is told of a run while it trains."""
    trackers = "vlmprompt.training.trackers"
    register("csv", target=f"{trackers}.table:TableTracker", summary="log.csv in the run's folder; always at work")
    register(
        "tensorboard",
        target=f"{trackers}.tensorboard:TensorBoardTracker",
        summary="event files for TensorBoard in the run's folder; needs the extra tensorboard",
    )


@hookimpl
def register_executors(register: Register) -> None:
    """Who carries out the runs of a sweep."""
    executors = "vlmprompt.evaluation.executors"
    register(
        "local",
        target=f"{executors}.local:LocalExecutor",
        config=f"{executors}.local_config:LocalConfig",
        summary="processes of this machine, one a CUDA device where there are several",
    )
