from pathlib import Path

from sqlalchemy import create_engine

from sanderling.hub import Hub
from sanderling.hub.identities import IdentityChange

PRESENT = {"settings": {"image": "localhost:8443/demo/digits:2"}}


def test_images_are_read_from_what_is_desired_and_what_is_reported(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/db")
    hub = Hub(engine)
    try:
        for device in ("press-1", "press-2"):
            hub.identities.create(device, None, IdentityChange(is_edge=True))
        assert hub.images() == set()
        desired = {"modules": {"digits": PRESENT}, "systemModules": {"edgeHub": {"settings": {"image": "hub:1"}}}}
        hub.twins.patch("press-1", "$edgeAgent", {"properties": {"desired": desired}})
        running = {"settings": {"image": "localhost:8443/demo/digits:1", "imageHash": "sha256:" + "1" * 64}}
        odd = {"text": "x", "number": {"settings": {"image": 5}}, "none": None, "list": {"settings": ["image"]}}
        hub.twins.report("press-2", "$edgeAgent", {"modules": {"digits": running, **odd}, "systemModules": "odd"})
        assert hub.images() == {
            "localhost:8443/demo/digits:1",
            "localhost:8443/demo/digits:2",
            "sha256:" + "1" * 64,
            "hub:1",
        }
    finally:
        hub.close()
        engine.dispose()
