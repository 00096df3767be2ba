"""Stage 1, the model: workspaces with immutable, versioned models.

`Workspaces` registers, lists and deletes; content is sent to `blobs` first and named by digest.
"""

from sanderling.workspace.models import ModelFile, ModelVersion, WorkspaceInfo
from sanderling.workspace.workspaces import Workspaces

__all__ = ["ModelFile", "ModelVersion", "WorkspaceInfo", "Workspaces"]
