"""What runs modules: a port and its adapters, and the choice between them.

`choose_engine("auto", ...)` takes Docker where its API answers, else bubblewrap.
"""

from sanderling.edge.engines.port import Container, ContainerEngine, ContainerSpec, HeldImage, State

__all__ = ["Container", "ContainerEngine", "ContainerSpec", "HeldImage", "State"]
