"""What conda put where pip's packages go, and what the resolver makes of it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.version import Version

from sanderling.image import Log
from sanderling.image.conda.brought import find_brought, leave_out, tell_resolver
from sanderling.image.environment.environment import Environment
from sanderling.image.interpreter import Interpreter
from sanderling.image.packages.resolve import Resolver, Wheel
from sanderling.image.packages.uv_errors import ResolutionFailed
from tests.image.conda.conftest import AMD64

SITE = "opt/conda/lib/python3.11/site-packages"
PYTHON = Interpreter("3.11", "opt/conda", SITE, (2, 36))
Choose = Callable[..., dict[str, str]]


def test_distributions_are_known_by_their_records() -> None:
    paths = [
        f"{SITE}/numpy-2.1.0.dist-info/METADATA",
        f"{SITE}/numpy-2.1.0.dist-info/RECORD",
        f"{SITE}/ruamel.yaml-0.18.6-py3.11.egg-info/PKG-INFO",
        f"{SITE}/Old_Style-1.0-py3.11.egg-info",
        f"{SITE}/vendor/other-9.dist-info/METADATA",
        f"{SITE}/odd-not_a_version.dist-info/METADATA",
        "opt/conda/conda-meta/zlib-1.3.json",
    ]
    assert find_brought(paths, SITE) == {
        "numpy": Version("2.1.0"),
        "ruamel-yaml": Version("0.18.6"),
        "old-style": Version("1.0"),
    }


def test_nothing_brought_changes_nothing(tmp_path: Path) -> None:
    environment = Environment(("alpha",))
    assert tell_resolver(environment, {}, tmp_path) is environment
    assert not list(tmp_path.iterdir())


class TestResolved:
    @pytest.fixture
    def choose(
        self, tmp_path: Path, log: Log, make_index: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> Choose:
        """Resolve requirements against a real index, with some packages brought by conda."""
        url = make_index(
            ("alpha", "1.0", ["beta>=1.5", "gamma"]),
            ("beta", "1.0", []),
            ("beta", "2.0", []),
            ("beta", "3.0", []),
            ("gamma", "1.0", []),
            ("strict", "1.0", ["beta==2.0"]),
            ("newer", "1.0", ["beta>=3"]),
        )
        monkeypatch.setenv("UV_DEFAULT_INDEX", url)

        def call(*requirements: str, **brought: str) -> dict[str, str]:
            versions = {name: Version(version) for name, version in brought.items()}
            told = tell_resolver(Environment(requirements), versions, tmp_path / "brought folder")
            wheels = Resolver(tmp_path / "cache", log).resolve(told, AMD64, PYTHON)
            return {wheel.name: wheel.version for wheel in leave_out(wheels, versions)}

        return call

    def test_what_conda_brought_is_used_and_not_brought_again(self, choose: Choose) -> None:
        assert choose("alpha", beta="2.0") == {"alpha": "1.0", "gamma": "1.0"}
        assert choose("alpha", "beta", beta="2.0") == {"alpha": "1.0", "gamma": "1.0"}

    def test_a_version_that_the_index_does_not_have_will_do(self, choose: Choose) -> None:
        assert choose("alpha", beta="1.7.post3") == {"alpha": "1.0", "gamma": "1.0"}
        assert choose("alpha", beta="1.7+local.2") == {"alpha": "1.0", "gamma": "1.0"}
        assert choose("alpha", beta="2.0rc1") == {"alpha": "1.0", "gamma": "1.0"}

    def test_a_pin_to_the_version_that_is_there_fits(self, choose: Choose) -> None:
        assert choose("strict", beta="2.0") == {"strict": "1.0"}

    def test_a_conflict_with_what_conda_brought_says_so(self, choose: Choose) -> None:
        with pytest.raises(ResolutionFailed, match=r"beta"):
            choose("newer", beta="2.0")

    def test_hashes_that_the_file_wants_are_not_wanted_of_what_conda_brought(
        self, tmp_path: Path, log: Log, choose: Choose
    ) -> None:
        (wheel,) = (tmp_path / "index").glob("simple/strict/*.whl")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        wanted = Environment(("strict==1.0",), hashes=(("strict", (digest,)),), needs_hashes=True)
        brought = {"beta": Version("2.0")}
        told = tell_resolver(wanted, brought, tmp_path / "brought")
        wheels = leave_out(Resolver(tmp_path / "cache", log).resolve(told, AMD64, PYTHON), brought)
        assert [(wheel.name, wheel.sha256) for wheel in wheels] == [("strict", digest)]

    def test_packages_that_nobody_wants_stay_out(self, choose: Choose) -> None:
        assert choose("gamma", beta="2.0", unrelated="1.0") == {"gamma": "1.0"}


def test_what_is_left_out_is_known_by_any_way_to_write_its_name() -> None:
    wheel = Wheel("Foo.Bar", "1.0", "https://host.example/foo_bar-1.0-py3-none-any.whl", None, None)
    assert leave_out([wheel], {"foo-bar": Version("1.0")}) == []
