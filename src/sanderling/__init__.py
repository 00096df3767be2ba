"""From a trained model to predictions on edge devices, on your own machines.

The names of the SDK are here too, and are imported when they are first used:
the device and the scoring module do not need them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sanderling.sdk import Deployment, Device, Image, Messages, Model, Workspace

__all__ = ["Deployment", "Device", "Image", "Messages", "Model", "Workspace"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from sanderling import sdk

        return getattr(sdk, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
