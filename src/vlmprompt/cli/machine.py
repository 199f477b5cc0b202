"""Where a command computes, and where it keeps features of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmprompt.cli.options import (
    DeviceOption,
    FeatureCacheOption,
    FeatureDtypeOption,
    FeatureLimitOption,
    RootOption,
    WorkersOption,
)

if TYPE_CHECKING:
    from vlmprompt.config.models import Runtime


@dataclass(frozen=True, kw_only=True)
class MachineFlags:
    """Of commands that measure, beside what they measure."""

    device: DeviceOption = "auto"
    workers: WorkersOption = None
    root: RootOption = None
    feature_cache: FeatureCacheOption = None
    feature_limit: FeatureLimitOption = 10.0
    feature_dtype: FeatureDtypeOption = "fp32"

    def require_device(self) -> None:
        """Raises: UsageError: --device names no device."""
        from vlmprompt.config.device import require_device

        require_device(self.device)

    def runtime(self, **more: Any) -> Runtime:
        """What the flags say.

        Args:
            more: further settings of a `Runtime`, such as `runs_dir`.
        """
        from vlmprompt.config.models import Runtime

        said = {name: getattr(self, name) for name in Runtime.model_fields if hasattr(self, name)}
        return Runtime(**said | more)
