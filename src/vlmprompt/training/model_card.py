"""`MODEL_CARD.md`: what a run is, for people who find its folder."""

from __future__ import annotations

from vlmprompt.config.keys import show_value
from vlmprompt.config.models import TrainConfig
from vlmprompt.training.run_info import RunInfo

MAX_NAMES = 50


def model_card(info: RunInfo) -> str:
    """The card of a run, in Markdown; everything in it comes from run.json."""
    parts = [_title(info), _data(info), _training(info), _numbers(info), _use(info), _limits(info)]
    return "\n".join(parts)


def _title(info: RunInfo) -> str:
    config = info.config
    return f"""# {info.name}

Learned state of the method `{config.method}` over the frozen backbone `{config.backbone}`{_random(info)}, for
{len(info.class_names)} classes of `{info.data.spec}`. The weights of the backbone are not part of it.
{_warning(info)}"""


def _data(info: RunInfo) -> str:
    data, config = info.data, info.config
    shots = "all images" if config.shots is None else f"{config.shots} images a class"
    part = "" if len(data.labels) == data.classes else f" (the base half of {data.classes})"
    names = ", ".join(info.class_names[:MAX_NAMES])
    more = f" and {len(info.class_names) - MAX_NAMES} more (in run.json)" if len(info.class_names) > MAX_NAMES else ""
    drawn = f"{shots}, drawn with seed {config.seed}, digest `{data.fewshot_digest[:16]}`" if data.train_ids else "none"
    return f"""## Data

| | |
|---|---|
| data set | {data.name}, digest `{data.digest[:16]}` |
| training images | {len(data.train_ids)}: {drawn} |
| validation images | {len(data.val_ids)} ({data.val_source}) |
| setting | {config.setting}, protocol {config.protocol} |{_descriptions(info)}
| classes | {len(info.class_names)}{part} |

Classes: {names}{more}.
"""


def _descriptions(info: RunInfo) -> str:
    """A row of the table where the method read descriptions."""
    read = info.descriptions
    if read is None:
        return ""
    missing = f", none of {len(read.missing)} classes" if read.missing else ""
    by = f" by {', '.join(read.providers)}" if read.providers else ""
    return f"\n| class descriptions | {read.texts}{by}{missing}, digest `{read.digest[:16]}` |"


def _training(info: RunInfo) -> str:
    train = info.config.train
    rows = [
        ("trainable parameters", f"{info.trainable_parameters:,}"),
        ("images", info.features),
        ("device, precision", f"{info.device}, {train.precision}"),
        ("time", f"{info.seconds:.1f} s"),
    ]
    if info.steps:
        steps = f" at epochs {list(train.milestones)} by {train.gamma:g}" if train.schedule == "step" else ""
        warmup = f"{train.warmup_epochs} warm-up epochs at {train.warmup_lr:g}"
        floor = f" to {train.min_lr:g}" if train.min_lr else ""
        unit = " by the step" if train.schedule_unit == "step" else ""
        rate = f"lr {train.lr:g}, {train.schedule}{floor}{unit}{steps}, {warmup}"
        eps = "" if train.eps is None else f" (eps {train.eps:g})"
        rows.append(("steps", f"{info.steps} of up to {train.batch_size} images"))
        rows.append(("optimiser", f"{train.optimizer}{eps}, {rate}, weight decay {train.weight_decay:g}"))
        rows += _unusual(train)
    if info.kept is not None and info.kept.words:
        rows.append(("state", info.kept.words))
    rows += [(name, str(value)) for name, value in info.fit.items()]
    if info.search is not None:
        rows.append(("chosen", info.search.words))
    rows.append(("versions", ", ".join(f"{name} {v}" for name, v in info.versions.items())))
    return "## Training\n\n| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


def _unusual(train: TrainConfig) -> list[tuple[str, str]]:
    """How classes of unequal size were evened out, if they were."""
    rows = [("sampling", "balanced: each class equally often")] if train.sampling == "balanced" else []
    if train.class_weights is not None:
        rows.append(("class weights", show_value("class_weights", train.class_weights)))
    return rows


def _numbers(info: RunInfo) -> str:
    shown = {"loss": "{:.4f}", "train_accuracy": "{:.2%}", "val_accuracy": "{:.2%}"}
    rows = [f"| {name} | {form.format(info.metrics[name])} |\n" for name, form in shown.items() if name in info.metrics]
    if not rows:
        return "## Numbers\n\nNothing was trained. Results come from `vlmprompt evaluate`.\n"
    intro = "Of the training images only; they say nothing of new images. Results come from `vlmprompt evaluate`."
    if "val_accuracy" in info.metrics:
        intro = (
            "Of the training images, and val_accuracy of the validation images, by which state and length of the run "
            "may have been chosen. Results on new images come from `vlmprompt evaluate`."
        )
    return f"## Numbers\n\n{intro}{_warning(info)}\n\n| | |\n|---|---|\n" + "".join(rows)


def _use(info: RunInfo) -> str:
    return f"""## Use

    vlmprompt evaluate {info.name}
    vlmprompt predict {info.name} picture.jpg

```python
from vlmprompt.api import load_run

run = load_run("path/to/{info.name}")
classify = run.classifier()      # loads the backbone; encodes the text of the classes, once
found = classify("picture.jpg")  # a path, a PIL image, an array, or any number of these; no gradients
print(found.names, found.probabilities_BK)  # over run.class_names, {len(info.class_names)} of them
```

The learned tensors are in `checkpoint.safetensors`, the whole record of the run in `run.json`.
"""


def _limits(info: RunInfo) -> str:
    config = info.config
    few = info.data.train_ids and config.shots is not None
    shots = f"It has learned from {config.shots} images of each class. " if few else ""
    return f"""## Limits

It answers with one of its classes for any image, also for one that shows none of them. {shots}What the
backbone cannot tell apart, and what its training data were biased towards, carries over. It works with this
backbone and these weights only (digest `{info.backbone.digest[:16]}`).
"""


def _random(info: RunInfo) -> str:
    seed = info.backbone.random_weights
    return "" if seed is None else f" with RANDOM weights (seed {seed})"


def _warning(info: RunInfo) -> str:
    if info.backbone.random_weights is None:
        return ""
    stand_in = info.backbone.stand_in
    read = f" Numbers stand in for the words of tokenizer `{stand_in}`." if stand_in else ""
    return f"\n**The backbone's weights are random: the numbers of this run mean nothing but that it ran.{read}**\n"
