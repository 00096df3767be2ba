"""What steps set in an image's config."""

from typing import Any

import pytest

from sanderling.dockerfile import DockerfileInvalid
from sanderling.image import Event
from tests.image.steps.conftest import World


def env_of(config: dict[str, Any]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in config["Env"])


def test_variables_build_upon_those_of_the_image(world: World) -> None:
    env = env_of(world.config("ENV PATH=/opt/bin:$PATH A=\"x y\"\nENV B=${A:-no}! C=${D:-d} E='$A'"))
    assert env["PATH"].startswith("/opt/bin:/usr/local/sbin:")
    assert (env["A"], env["B"], env["C"], env["E"]) == ("x y", "x y!", "d", "$A")
    assert env["AML_APP_ROOT"] == "/var/azureml-app"


def test_labels_ports_volumes_signal_shell_and_health_check(world: World) -> None:
    config = world.config(
        "LABEL team=edge org.opencontainers.image.vendor='A B'\nEXPOSE 8080 53/udp\nVOLUME /data logs\n"
        'STOPSIGNAL SIGINT\nSHELL ["/bin/bash", "-c"]\nHEALTHCHECK --interval=5s --retries=2 CMD test -e /x'
    )
    assert config["Labels"]["team"] == "edge"
    assert config["Labels"]["org.opencontainers.image.vendor"] == "A B"
    assert config["Labels"]["io.sanderling.image"] == "demo/digits:1"
    assert config["ExposedPorts"] == {"5001/tcp": {}, "8080/tcp": {}, "53/udp": {}}
    assert config["Volumes"] == {"/data": {}, "/var/azureml-app/logs": {}}
    assert config["StopSignal"] == "SIGINT"
    assert config["Shell"] == ["/bin/bash", "-c"]
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "test -e /x"], "Interval": 5_000_000_000, "Retries": 2}


@pytest.mark.parametrize(
    ("user", "numbers"),
    [("1000", "1000"), ("1000:5", "1000:5"), ("app", "1001:1002"), ("app:web", "1001:33"), ("nobody", "65534:65534")],
)
def test_user_becomes_numbers(world: World, user: str, numbers: str) -> None:
    assert world.config(f"USER {user}")["User"] == numbers


def test_root_is_what_the_steps_may_be_and_is_warned_of(world: World, events: list[Event]) -> None:
    assert world.config("LABEL a=b")["User"] == "65532:65532"
    assert not [event for event in events if event.level == "warning"]
    assert world.config("LABEL a=b\nUSER root")["User"] == "0:0"
    assert "Dockerfile, line 2: the image runs as root" in [e.text for e in events if e.level == "warning"]


def test_a_user_that_is_not_there_is_refused_with_its_line(world: World) -> None:
    with pytest.raises(DockerfileInvalid, match="line 2: USER who: the image has no such user; write its number"):
        world.apply("LABEL a=b\nUSER who")


def test_the_working_folder_is_made_and_set_and_the_entry_stays(world: World) -> None:
    config = world.config("WORKDIR /srv/a\nWORKDIR b")
    assert config["WorkingDir"] == "/srv/a/b"
    assert config["Entrypoint"] == ["/usr/bin/python3", "-m", "sanderling_scoring"]
    layers = world.apply("WORKDIR /srv/a\nWORKDIR b").layers
    assert world.members(layers[1].layer)["srv/a/b"].mode == 0o755
    assert world.apply("WORKDIR /var/azureml-app").layers == ()


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("FROM debian", "so there is no FROM"),
        ("CMD python", "the scoring server is the image's process"),
        ('ENTRYPOINT ["x"]', "the scoring server is the image's process"),
        ("ENV AZUREML_MODEL_DIR=/x", "AZUREML_MODEL_DIR is set by the image"),
        ("ENV SERVER_PORT 80", "SERVER_PORT is set by the image"),
        ("LABEL io.sanderling.image=x", "one of the image's own labels"),
        ("WORKDIR /etc/passwd", "/etc/passwd is no folder"),
        ("EXPOSE many", "'many' is no port"),
        ("USER a b", "'a b' is no user"),
    ],
)
def test_what_would_break_the_image_is_refused_with_its_line(world: World, step: str, why: str) -> None:
    with pytest.raises(DockerfileInvalid, match=rf"Dockerfile, line 2: .*{why}"):
        world.apply(f"\n{step}")
