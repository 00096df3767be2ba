"""The places images are kept in, behind one port: a registry, a folder, a tar file."""

from collections.abc import Callable

from sanderling.transfer.client import RegistryClient
from sanderling.transfer.places.address import Address
from sanderling.transfer.places.docker_archive import DockerArchivePlace
from sanderling.transfer.places.layout import LayoutPlace
from sanderling.transfer.places.oci_archive import OciArchivePlace
from sanderling.transfer.places.port import Place
from sanderling.transfer.places.registry import RegistryPlace


def place_of(address: Address, connect: Callable[[Address], RegistryClient]) -> Place:
    """Return the place that *address* names; *connect* makes the client for a registry."""
    if address.kind == "registry":
        return RegistryPlace(connect(address))
    assert address.path is not None
    made: Place
    match address.kind:
        case "oci":
            made = LayoutPlace(address.path)
        case "oci-archive":
            made = OciArchivePlace(address.path)
        case _:
            made = DockerArchivePlace(address.path)
    return made


__all__ = ["Address", "DockerArchivePlace", "LayoutPlace", "OciArchivePlace", "Place", "RegistryPlace", "place_of"]
