"""The stable names for plugin authors and for use from Python; everything else may change.

`VERSION` is theirs, see docs/compatibility.md. Names are imported on first use: `from vlmprompt.api import hookimpl`
loads no torch.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

from vlmprompt.compatibility import Deprecated, deprecated

if TYPE_CHECKING:
    from pydantic import Field as Field

    from vlmprompt.backbones.backbone import Backbone as Backbone
    from vlmprompt.backbones.backbone import Identity as Identity
    from vlmprompt.backbones.deltas import Bias as Bias
    from vlmprompt.backbones.deltas import Bottleneck as Bottleneck
    from vlmprompt.backbones.deltas import LowRank as LowRank
    from vlmprompt.backbones.deltas import Norm as Norm
    from vlmprompt.backbones.deltas import TowerDeltas as TowerDeltas
    from vlmprompt.backbones.load import load_backbone as load_backbone
    from vlmprompt.backbones.openclip.model import clip_model as clip_model
    from vlmprompt.backbones.openclip.tokens import bpe_tokenizer as bpe_tokenizer
    from vlmprompt.backbones.precision import Precision as Precision
    from vlmprompt.backbones.text.engine import TextEngine as TextEngine
    from vlmprompt.backbones.text.tower import TextTower as TextTower
    from vlmprompt.backbones.text.tower import Words as Words
    from vlmprompt.backbones.text.whole import Texts as Texts
    from vlmprompt.backbones.text.whole import WholeTower as WholeTower
    from vlmprompt.backbones.types import ClassPosition as ClassPosition
    from vlmprompt.backbones.types import ClassTokens as ClassTokens
    from vlmprompt.backbones.types import ImageFeatures as ImageFeatures
    from vlmprompt.backbones.types import ImageNeeds as ImageNeeds
    from vlmprompt.backbones.types import TextFeatures as TextFeatures
    from vlmprompt.backbones.types import TextPrompts as TextPrompts
    from vlmprompt.backbones.types import VisualPrompts as VisualPrompts
    from vlmprompt.backbones.types import at_least_float as at_least_float
    from vlmprompt.backbones.types import unit as unit
    from vlmprompt.backbones.vision.maps import MapEngine as MapEngine
    from vlmprompt.backbones.vision.tokens import TokenEngine as TokenEngine
    from vlmprompt.backbones.vision.tower import ImageBlock as ImageBlock
    from vlmprompt.backbones.vision.tower import MapTower as MapTower
    from vlmprompt.backbones.vision.tower import TokenTower as TokenTower
    from vlmprompt.compatibility import VERSION as VERSION
    from vlmprompt.config.models import Runtime as Runtime
    from vlmprompt.config.templates import TextTemplate as TextTemplate
    from vlmprompt.data.contents import image_key as image_key
    from vlmprompt.data.images import read_image as read_image
    from vlmprompt.data.load import DatasetReader as DatasetReader
    from vlmprompt.data.load import load_dataset as load_dataset
    from vlmprompt.data.names import read_names as read_names
    from vlmprompt.data.preprocess import PreprocessConfig as PreprocessConfig
    from vlmprompt.data.records import Dataset as Dataset
    from vlmprompt.data.records import ImageSource as ImageSource
    from vlmprompt.data.records import Record as Record
    from vlmprompt.describe.provider import AnswerError as AnswerError
    from vlmprompt.describe.provider import ProviderConfig as ProviderConfig
    from vlmprompt.describe.provider import Question as Question
    from vlmprompt.describe.provider import Reply as Reply
    from vlmprompt.describe.provider import RequestError as RequestError
    from vlmprompt.describe.templates import unasked as unasked
    from vlmprompt.errors import CapabilityError as CapabilityError
    from vlmprompt.errors import IncompleteError as IncompleteError
    from vlmprompt.errors import InputError as InputError
    from vlmprompt.errors import Interrupted as Interrupted
    from vlmprompt.errors import PluginError as PluginError
    from vlmprompt.errors import UsageError as UsageError
    from vlmprompt.errors import VlmPromptError as VlmPromptError
    from vlmprompt.errors import did_you_mean as did_you_mean
    from vlmprompt.evaluation.calibrate import calibrate as calibrate
    from vlmprompt.evaluation.context import Context as Context
    from vlmprompt.evaluation.contract import Cell as Cell
    from vlmprompt.evaluation.contract import Measurement as Measurement
    from vlmprompt.evaluation.contract import MetricValue as MetricValue
    from vlmprompt.evaluation.contract import Reading as Reading
    from vlmprompt.evaluation.contract import Suite as Suite
    from vlmprompt.evaluation.contract import impossible as impossible
    from vlmprompt.evaluation.contract import missing as missing
    from vlmprompt.evaluation.executors.contract import Executor as Executor
    from vlmprompt.evaluation.executors.contract import ExecutorConfig as ExecutorConfig
    from vlmprompt.evaluation.executors.contract import SweepOutcome as SweepOutcome
    from vlmprompt.evaluation.executors.contract import SweepTask as SweepTask
    from vlmprompt.evaluation.executors.told import Retold as Retold
    from vlmprompt.evaluation.executors.worker import SweepWorker as SweepWorker
    from vlmprompt.evaluation.images import Predictions as Predictions
    from vlmprompt.evaluation.ood_metrics import ood_metrics as ood_metrics
    from vlmprompt.evaluation.runner import evaluate as evaluate
    from vlmprompt.evaluation.scored import Scored as Scored
    from vlmprompt.evaluation.scored import score_split as score_split
    from vlmprompt.evaluation.subject import Subject as Subject
    from vlmprompt.evaluation.untrained import evaluate_method as evaluate_method
    from vlmprompt.explain import explain as explain
    from vlmprompt.export.work import Exported as Exported
    from vlmprompt.export.work import export_run as export_run
    from vlmprompt.hookspecs import Register as Register
    from vlmprompt.hookspecs import hookimpl as hookimpl
    from vlmprompt.methods.build import build_method as build_method
    from vlmprompt.methods.build import list_methods as list_methods
    from vlmprompt.methods.class_text import class_text as class_text
    from vlmprompt.methods.classifier import Classification as Classification
    from vlmprompt.methods.classifier import Classifier as Classifier
    from vlmprompt.methods.config import ContextConfig as ContextConfig
    from vlmprompt.methods.config import CoOpConfig as CoOpConfig
    from vlmprompt.methods.config import MethodConfig as MethodConfig
    from vlmprompt.methods.contract import PromptMethod as PromptMethod
    from vlmprompt.methods.coop import CoOp as CoOp
    from vlmprompt.methods.cost_plan import cost_plan as cost_plan
    from vlmprompt.methods.curves import Curves as Curves
    from vlmprompt.methods.curves import Panel as Panel
    from vlmprompt.methods.foreign import ForeignState as ForeignState
    from vlmprompt.methods.foreign import context_options as context_options
    from vlmprompt.methods.foreign import dassl_state as dassl_state
    from vlmprompt.methods.foreign import saved_tensors as saved_tensors
    from vlmprompt.methods.frozen import FrozenMethod as FrozenMethod
    from vlmprompt.methods.groups import ParameterGroup as ParameterGroup
    from vlmprompt.methods.initial import embedded_words as embedded_words
    from vlmprompt.methods.initial import gaussian as gaussian
    from vlmprompt.methods.initial import initial_context as initial_context
    from vlmprompt.methods.initial import meta_net as meta_net
    from vlmprompt.methods.initial import seeded_linear as seeded_linear
    from vlmprompt.methods.learned_table import LearnedTable as LearnedTable
    from vlmprompt.methods.output import LocalView as LocalView
    from vlmprompt.methods.output import Losses as Losses
    from vlmprompt.methods.output import MethodOutput as MethodOutput
    from vlmprompt.methods.patch_maps import PatchMap as PatchMap
    from vlmprompt.methods.patch_maps import chosen_maps as chosen_maps
    from vlmprompt.methods.patch_maps import cosine_maps as cosine_maps
    from vlmprompt.methods.patch_maps import plan_maps as plan_maps
    from vlmprompt.methods.score import Score as Score
    from vlmprompt.methods.score_config import ScoreConfig as ScoreConfig
    from vlmprompt.methods.scorer import Scorer as Scorer
    from vlmprompt.methods.scorer import scorer as scorer
    from vlmprompt.methods.scores import ood_scores as ood_scores
    from vlmprompt.methods.teachers import require_width as require_width
    from vlmprompt.methods.topk import topk_cosines as topk_cosines
    from vlmprompt.methods.topk import topk_means as topk_means
    from vlmprompt.methods.transport import TransportCaps as TransportCaps
    from vlmprompt.methods.transport import transport_plan as transport_plan
    from vlmprompt.methods.weighted import cross_entropy as cross_entropy
    from vlmprompt.predict.calibrated import Calibrated as Calibrated
    from vlmprompt.predict.prediction import Prediction as Prediction
    from vlmprompt.predict.predictor import Predictor as Predictor
    from vlmprompt.progress import Progress as Progress
    from vlmprompt.results.rows import ResultRow as ResultRow
    from vlmprompt.results.tables import SummaryTable as SummaryTable
    from vlmprompt.results.tables import summarise as summarise
    from vlmprompt.training.entry import train as train
    from vlmprompt.training.runs import Run as Run
    from vlmprompt.training.runs import load_run as load_run
    from vlmprompt.training.trackers.contract import TrackedRun as TrackedRun
    from vlmprompt.training.trackers.contract import Tracker as Tracker

# The imports above are the list: a type checker reads them, and so does this module, once. `Name as Name` says to the
# checker that the name is this module's to give.
_HOME = {
    name.name: statement.module
    for block in ast.parse(inspect.getsource(sys.modules[__name__])).body
    if isinstance(block, ast.If)
    for statement in block.body
    if isinstance(statement, ast.ImportFrom) and statement.module is not None
    for name in statement.names
}

__all__ = sorted(_HOME)

# Names that are going: they are not in the list any more, and work for two more minor versions.
_DEPRECATED: dict[str, Deprecated] = {}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        return deprecated(__name__, name, _DEPRECATED)
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
