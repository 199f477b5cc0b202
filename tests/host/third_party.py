"""A plugin package of somebody else: written as sources, built into a wheel, installed into a folder by pip.

What pip put there is copied to where a test wants it, and un-installing is removing that folder; the environment that
runs the tests is never touched. Used with `environment(site)`, a `vlmprompt` process sees the package as one that pip
installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.processes import Process
from vlmprompt.cli.main import main

# The names that the package registers; it is imported as `MODULE`, and its entry point is called so, too.
DISTRIBUTION, MODULE, METHOD, COMMAND = "acme-prompts", "acme_prompts", "nudge", "acme-hello"

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "1.2.3"
dependencies = ["vlmprompt"]

[project.entry-points.vlmprompt]
{module} = "{module}"

[tool.setuptools]
packages = ["{module}"]
"""

ENTRY = """\
from vlmprompt.api import hookimpl


@hookimpl
def register_methods(register):
    register(
        "nudge",
        target="{module}.method:Nudge",
        config="{module}.method:NudgeConfig",
        summary="one context vector for all classes",
    )


@hookimpl
def register_backbones(register):
    register("acme-clip", target="{module}.backbone:Tiny", summary="a CLIP of a few layers")


@hookimpl
def register_commands(app):
    @app.command("{command}")
    def hello(name: str = "you"):
        "Say hello."
        print(f"hello {{name}}")
"""

METHOD_SOURCE = '''\
"""A small method: learned context vectors, shared by all classes."""

import torch
from torch import nn

from vlmprompt.api import Field, MethodConfig, PromptMethod, TextPrompts


class NudgeConfig(MethodConfig):
    """Options of Nudge."""

    n_ctx: int = Field(2, ge=1, description="context vectors; source: made up")


class Nudge(PromptMethod):
    """Logits are scaled cosines of the image and of "[v_1] .. [v_V] {name}." with learned v."""

    capabilities = frozenset({"new_classes", "feature_cache"})

    def __init__(self, backbone, class_names, config, *, descriptions=None, generator=None):
        super().__init__(backbone, class_names, config, descriptions=descriptions, generator=generator)
        shape = (1, config.n_ctx, backbone.text.width)
        self.ctx = nn.Parameter(0.02 * torch.randn(shape, generator=self.generator))

    def text_prompts(self, global_Bd=None, *, draws=None):
        return TextPrompts(self.ctx)
'''

BACKBONE_SOURCE = '''\
"""A tiny CLIP with random weights, always the same ones."""

import open_clip
import torch

from vlmprompt.api import Backbone


class Tiny:
    """The loader."""

    def load(self, spec, *, device, precision, quick_gelu, random_weights):
        vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
        text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            model = open_clip.model.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text, quick_gelu=True)
        return Backbone.from_model(model.to(device), open_clip.SimpleTokenizer(), name=spec, precision=precision)
'''


def write_project(
    folder: Path, *, entry: str | None = None, distribution: str = DISTRIBUTION, module: str = MODULE
) -> Path:
    """Write the sources.

    Args:
        entry: contents of the entry module, in place of the one that works.
    """
    package = folder / module
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT.format(distribution=distribution, module=module))
    (package / "__init__.py").write_text(entry or ENTRY.format(module=module, command=COMMAND))
    (package / "method.py").write_text(METHOD_SOURCE)
    (package / "backbone.py").write_text(BACKBONE_SOURCE)
    return folder


def install_all(projects: Sequence[Path], site: Path) -> None:
    """Build the wheels without network, in the running environment, and install them into a folder."""
    wheels = site.with_name(f"{site.name}-wheels")
    wheels.mkdir()
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    for project in projects:
        subprocess.run([sys.executable, "-c", build, wheels], cwd=project, check=True, capture_output=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--no-compile", "--target", site, *wheels.iterdir()], check=True)


def install(module: str, installed: Path, site: Path) -> None:
    """Copy one of the packages that are installed in a folder into another, which may hold others."""
    for folder in installed.glob(f"{module}*"):
        shutil.copytree(folder, site / folder.name)


def environment(site: Path, **variables: str) -> dict[str, str]:
    """Environment variables of a process that sees what is installed in `site`."""
    return dict(os.environ) | {"PYTHONPATH": str(site), "COLUMNS": "200"} | variables


def vlmprompt(*args: str, env: Mapping[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "vlmprompt", *args]
    return subprocess.run(command, env=dict(env), cwd=cwd, capture_output=True, text=True, check=False)


def vlmprompt_with_torch(*args: str, env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same for a command that needs torch: in a process that begins with it."""
    process = Process(main, list(args), env=env, cwd=cwd)
    out, err = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(args, process.returncode, out, err)
