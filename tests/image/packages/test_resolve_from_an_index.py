"""uv against a real index: what it chooses, and what we say when it cannot."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sanderling.errors import Denied, Invalid, Unavailable
from sanderling.image import Environment, Event, Log
from sanderling.image.environment.conda_file import parse_environment
from sanderling.image.environment.environment import LocalWheel
from sanderling.image.environment.requirements_file import parse_requirements
from sanderling.image.interpreter import DEBIAN_12
from sanderling.image.packages.lock import WrongHash
from sanderling.image.packages.resolve import Resolver
from sanderling.image.packages.uv_errors import NoWheels, ResolutionFailed
from sanderling.oci import Platform
from tests.image.packages.index_server import Index, wheel_bytes

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
ARMV7 = Platform("linux", "arm", "v7")
X86 = "cp311-cp311-manylinux_2_17_x86_64"
ARM = "cp311-cp311-manylinux_2_17_aarch64"


@pytest.fixture
def index() -> Index:
    return Index()


@pytest.fixture
def host(index: Index, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with index.serving() as host:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{host}/simple/")
        yield host


@pytest.fixture
def resolver(tmp_path: Path, log: Log) -> Resolver:
    return Resolver(tmp_path / "cache", log)


def file(*lines: str) -> Environment:
    listed = "".join(f"    - {line}\n" for line in lines)
    return parse_environment(f"dependencies:\n  - pip:\n{listed}".encode(), "myenv.yml")


def failure(resolver: Resolver, environment: Environment, platform: Platform = AMD64) -> ResolutionFailed:
    with pytest.raises(ResolutionFailed) as caught:
        resolver.resolve(environment, platform, DEBIAN_12)
    return caught.value


@pytest.mark.usefixtures("host")
class TestWhatIsChosen:
    def test_a_withdrawn_version_is_used_when_it_is_pinned_and_the_log_warns(
        self, resolver: Resolver, index: Index, events: list[Event]
    ) -> None:
        index.wheel("alpha", "1.0")
        index.wheel("alpha", "2.0", yanked="it eats data")
        (wheel,) = resolver.resolve(file("alpha"), AMD64, DEBIAN_12)
        assert wheel.version == "1.0"
        assert not [event for event in events if event.level == "warning"]
        (wheel,) = resolver.resolve(file("alpha==2.0"), AMD64, DEBIAN_12)
        assert wheel.version == "2.0"
        told = [event.text for event in events if event.level == "warning"]
        assert told == [
            "alpha 2.0 was withdrawn from its index (yanked): it eats data; it is used because it is pinned"
        ]
        resolver.resolve(file("alpha==2.0"), AMD64, DEBIAN_12)
        assert [event.text for event in events if event.level == "warning"] == told * 2

    def test_a_withdrawn_version_is_not_used_for_a_range(self, resolver: Resolver, index: Index) -> None:
        index.wheel("alpha", "1.0")
        index.wheel("alpha", "2.0", yanked="it eats data")
        error = failure(resolver, file("alpha>=2"))
        assert "version 2.0 was withdrawn from its index (yanked): it eats data, and no other fits" in error.message
        assert error.package == "alpha"

    def test_pre_releases_are_chosen_when_they_are_allowed(self, resolver: Resolver, index: Index) -> None:
        index.wheel("alpha", "1.0")
        index.wheel("alpha", "2.0rc1")
        assert resolver.resolve(file("alpha"), AMD64, DEBIAN_12)[0].version == "1.0"
        assert resolver.resolve(file("--pre", "alpha"), AMD64, DEBIAN_12)[0].version == "2.0rc1"

    def test_constraints_hold_for_what_is_wanted_anyway(self, resolver: Resolver, index: Index, tmp_path: Path) -> None:
        index.wheel("alpha", "1.0", requires=["beta"])
        index.wheel("beta", "1.0")
        index.wheel("beta", "2.0")
        (tmp_path / "c").write_text("beta<2\nmissing==1\n")
        environment = parse_requirements(b"-c c.txt\nalpha\n", given={"c.txt": tmp_path / "c"})
        wheels = resolver.resolve(environment, AMD64, DEBIAN_12)
        assert [(wheel.name, wheel.version) for wheel in wheels] == [("alpha", "1.0"), ("beta", "1.0")]

    def test_a_marker_is_judged_for_the_image_and_not_for_this_machine(self, resolver: Resolver, index: Index) -> None:
        index.wheel("alpha", "1.0")
        index.wheel("beta", "1.0")
        index.wheel("gamma", "1.0")
        environment = Environment(
            requirements=(
                "alpha ; platform_machine == 'aarch64'",
                "beta ; platform_machine == 'armv7l'",
                "gamma ; python_version == '3.11' and sys_platform == 'linux'",
            )
        )
        names = {p: [w.name for w in resolver.resolve(environment, p, DEBIAN_12)] for p in (AMD64, ARM64, ARMV7)}
        assert names == {AMD64: ["gamma"], ARM64: ["alpha", "gamma"], ARMV7: ["beta", "gamma"]}


@pytest.mark.usefixtures("host")
class TestDigests:
    def test_of_the_wheels_of_a_version_those_with_a_listed_digest_count(
        self, resolver: Resolver, index: Index
    ) -> None:
        index.wheel("alpha", "1.0", X86)
        digest = index.wheel("alpha", "1.0")
        (wheel,) = resolver.resolve(file(f"alpha==1.0 --hash=sha256:{digest}"), AMD64, DEBIAN_12)
        assert (wheel.file_name, wheel.sha256) == ("alpha-1.0-py3-none-any.whl", digest)

    def test_a_wheel_with_another_digest_is_refused(self, resolver: Resolver, index: Index) -> None:
        index.wheel("alpha", "1.0")
        with pytest.raises(WrongHash, match=r"package 'alpha' 1\.0: none of its wheels for this platform"):
            resolver.resolve(file(f"alpha==1.0 --hash=sha256:{'ab' * 32}"), AMD64, DEBIAN_12)

    def test_with_digests_every_package_must_have_one(self, resolver: Resolver, index: Index) -> None:
        digest = index.wheel("alpha", "1.0", requires=["beta"])
        index.wheel("beta", "1.0")
        with pytest.raises(WrongHash, match=r"package 'beta' 1\.0: .*but none of this package") as caught:
            resolver.resolve(file(f"alpha==1.0 --hash=sha256:{digest}"), AMD64, DEBIAN_12)
        assert caught.value.package == "beta"

    def test_the_digest_of_a_url_is_what_its_file_must_have(self, resolver: Resolver, index: Index, host: str) -> None:
        digest = index.wheel("alpha", "1.0")
        url = f"http://{host}/files/alpha-1.0-py3-none-any.whl"
        (wheel,) = resolver.resolve(file(f"alpha @ {url}#sha256={digest}"), AMD64, DEBIAN_12)
        assert (wheel.url, wheel.version, wheel.sha256) == (url, "1.0", digest)
        (wheel,) = resolver.resolve(file(url), AMD64, DEBIAN_12)
        assert (wheel.url, wheel.version) == (url, "1.0")
        (wheel,) = resolver.resolve(file(f"{url}#sha256={'ab' * 32}"), AMD64, DEBIAN_12)
        assert wheel.sha256 == "ab" * 32  # what is fetched is held against it

    def test_the_digest_of_a_local_wheel_is_checked(self, resolver: Resolver, tmp_path: Path) -> None:
        path = tmp_path / "mine-1.0-py3-none-any.whl"
        path.write_bytes(wheel_bytes("mine", "1.0"))
        right = hashlib.sha256(path.read_bytes()).hexdigest()
        for digest, words in ((right, None), ("ab" * 32, "package 'mine' 1.0: none of its wheels")):
            line = f"./{path.name} --hash=sha256:{digest}".encode()
            environment = parse_requirements(line, given={path.name: path})
            if words is None:
                assert resolver.resolve(environment, AMD64, DEBIAN_12)[0].sha256 == right
                continue
            with pytest.raises(WrongHash, match=words):
                resolver.resolve(environment, AMD64, DEBIAN_12)


@pytest.mark.usefixtures("host")
class TestLocalWheels:
    def test_a_local_wheel_is_resolved_with_the_rest(
        self, resolver: Resolver, index: Index, tmp_path: Path, events: list[Event]
    ) -> None:
        index.wheel("beta", "1.0")
        index.wheel("beta", "2.0")
        content = wheel_bytes("mine", "1.0", requires=["beta<2"])
        source = tmp_path / "blobs" / "0123"
        source.parent.mkdir()
        source.write_bytes(content)
        (source.parent / "other-1.0-py3-none-any.whl").write_bytes(wheel_bytes("other", "1.0"))
        environment = parse_environment(
            b"dependencies:\n  - pip:\n    - ./wheels/mine-1.0-py3-none-any.whl\n    - beta\n",
            given={"wheels/mine-1.0-py3-none-any.whl": source},
        )
        beta, mine = resolver.resolve(environment, AMD64, DEBIAN_12)
        assert (beta.version, mine.version, mine.url) == ("1.0", "1.0", "mine-1.0-py3-none-any.whl")
        assert (mine.sha256, mine.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
        assert mine.location == source.as_uri()
        # The same wheel somewhere else on another day: the choice is the same, its place is the new one.
        moved = tmp_path / "moved"
        source.rename(moved)
        again = Environment(
            requirements=environment.requirements, wheels=(LocalWheel("mine-1.0-py3-none-any.whl", moved),)
        )
        assert resolver.resolve(again, AMD64, DEBIAN_12)[1].location == moved.as_uri()
        assert "as chosen at" in events[-1].text
        assert str(tmp_path) not in next((tmp_path / "cache" / "locks").iterdir()).read_text()

    def test_a_local_wheel_with_other_content_is_another_choice(
        self, resolver: Resolver, index: Index, tmp_path: Path
    ) -> None:
        index.wheel("beta", "1.0")
        path = tmp_path / "mine-1.0-py3-none-any.whl"
        environment = Environment(
            requirements=("mine @ wheel:mine-1.0-py3-none-any.whl",), wheels=(LocalWheel(path.name, path),)
        )
        path.write_bytes(wheel_bytes("mine", "1.0"))
        assert len(resolver.resolve(environment, AMD64, DEBIAN_12)) == 1
        path.write_bytes(wheel_bytes("mine", "1.0", requires=["beta"]))
        assert len(resolver.resolve(environment, AMD64, DEBIAN_12)) == 2

    def test_a_local_wheel_for_another_platform_is_refused(self, resolver: Resolver, tmp_path: Path) -> None:
        path = tmp_path / f"mine-1.0-{X86}.whl"
        path.write_bytes(wheel_bytes("mine", "1.0", X86))
        environment = parse_requirements(f"./{path.name}".encode(), given={path.name: path})
        assert len(resolver.resolve(environment, AMD64, DEBIAN_12)) == 1
        error = failure(resolver, environment, ARM64)
        assert "is not for linux/arm64 with Python 3.11 and glibc 2.36; build it for these" in error.message

    def test_a_wheel_whose_content_has_another_name_is_refused_without_our_folders(
        self, resolver: Resolver, tmp_path: Path
    ) -> None:
        path = tmp_path / "mine-1.0-py3-none-any.whl"
        path.write_bytes(wheel_bytes("theirs", "1.0"))
        error = failure(resolver, parse_requirements(b"./mine-1.0-py3-none-any.whl", given={path.name: path}))
        assert "mine" in error.message
        assert "sanderling-resolve-" not in error.message


@pytest.mark.usefixtures("host")
class TestWhatCannotBe:
    def test_conflicting_pins_are_both_named(self, resolver: Resolver, index: Index) -> None:
        index.wheel("alpha", "1.0", requires=["gamma<2"])
        index.wheel("beta", "1.0", requires=["gamma>=2"])
        for version in ("0.5", "1.0", "2.0"):
            index.wheel("gamma", version)
        error = failure(resolver, file("alpha", "beta"))
        assert "contradict each other" in error.message
        assert "alpha needs gamma<2" in error.message
        assert "beta needs gamma>=2" in error.message
        assert error.package == "gamma"
        error = failure(resolver, file("alpha==1.0", "gamma==2.0"))
        assert "alpha needs gamma<2" in error.message
        assert "contradict each other: alpha==1.0, gamma==2.0, alpha needs gamma<2 (" in error.message
        assert "(myenv.yml, line 4)" in error.message
        error = failure(resolver, file("gamma==1.0", "gamma==2.0"))
        assert "contradict each other: gamma==1.0, gamma==2.0" in error.message

    def test_a_conflict_is_one_even_when_old_versions_have_no_wheels(self, resolver: Resolver, index: Index) -> None:
        index.wheel("alpha", "1.0", requires=["gamma<2"])
        index.wheel("beta", "1.0", requires=["gamma>=2"])
        index.source("gamma", "0.1")
        index.wheel("gamma", "1.0")
        index.wheel("gamma", "2.0")
        assert "contradict each other" in failure(resolver, file("alpha", "beta")).message

    def test_a_package_that_does_not_exist_is_named_with_its_line(self, resolver: Resolver, index: Index) -> None:
        index.wheel("beta", "1.0")
        error = failure(resolver, file("beta", "nowhere-to-be-found"))
        assert error.package == "nowhere-to-be-found"
        assert "package 'nowhere-to-be-found' (myenv.yml, line 4): no index has it. Is the name right?" in error.message
        assert "The package is called scikit-image" in failure(resolver, file("skimage")).message

    def test_a_version_that_does_not_exist_is_named(self, resolver: Resolver, index: Index) -> None:
        index.wheel("beta", "1.0")
        error = failure(resolver, file("beta==9"))
        assert (
            "package 'beta' (myenv.yml, line 3): no version satisfies beta==9; loosen or mend the pin" in error.message
        )

    def test_sources_alone_are_not_built(self, resolver: Resolver, index: Index) -> None:
        index.source("alpha", "1.0")
        error = failure(resolver, file("alpha"))
        assert error.package == "alpha"
        assert (
            "package 'alpha' (myenv.yml, line 3): there is no wheel for linux/amd64 with Python 3.11" in error.message
        )
        assert "its index has sources only: build a wheel of it" in error.message
        assert not [path for path in index.asked if path.endswith(".tar.gz")]

    def test_sources_that_another_package_needs_are_the_culprit(self, resolver: Resolver, index: Index) -> None:
        index.source("alpha", "1.0")
        index.wheel("beta", "1.0", requires=["alpha"])
        assert failure(resolver, file("beta")).package == "alpha"

    def test_versions_that_have_a_wheel_for_the_platform_are_named(self, resolver: Resolver, index: Index) -> None:
        index.wheel("alpha", "1.0", ARM)
        index.wheel("alpha", "1.1", ARM)
        index.wheel("alpha", "2.0", X86)
        assert resolver.resolve(file("alpha"), ARM64, DEBIAN_12)[0].version == "1.1"
        error = failure(resolver, file("alpha==2.0"), ARM64)
        assert "there is no wheel for linux/arm64 with Python 3.11" in error.message
        assert "versions that have one: 1.1, 1.0; pin one of them (alpha==1.1)" in error.message

    def test_no_version_for_the_platform_or_its_c_library_is_said(self, resolver: Resolver, index: Index) -> None:
        index.wheel("alpha", "1.0", X86)
        assert "none of its versions (the newest is 1.0) has one" in failure(resolver, file("alpha"), ARM64).message
        index.wheel("beta", "1.0", "cp311-cp311-manylinux_2_39_x86_64")
        assert "none of its versions (the newest is 1.0) has one" in failure(resolver, file("beta")).message

    def test_all_packages_without_a_wheel_are_listed_at_once(self, resolver: Resolver, index: Index) -> None:
        index.wheel("alpha", "1.0", X86)
        index.wheel("beta", "1.0", "cp311-cp311-manylinux_2_17_armv7l")
        index.wheel("beta", "2.0", X86)
        index.source("gamma", "1.0")
        index.wheel("delta", "1.0", requires=["gamma", "alpha"])
        with pytest.raises(NoWheels) as caught:
            resolver.resolve(file("delta", "beta==2.0"), ARMV7, DEBIAN_12)
        assert set(caught.value.packages) == {"alpha", "beta", "gamma"}
        assert "3 packages have no wheel for linux/arm/v7 with Python 3.11" in caught.value.message
        assert "beta (myenv.yml, line 4): versions that have one: 1.0" in caught.value.message

    @pytest.mark.parametrize("platform", [ARM64, ARMV7])
    def test_what_a_package_without_a_wheel_needs_is_listed_when_it_has_none_either(
        self, resolver: Resolver, index: Index, platform: Platform
    ) -> None:
        index.wheel("alpha", "1.0", X86, requires=["beta", "gamma", "delta"])
        index.wheel("beta", "1.0", X86, requires=["epsilon"])
        index.wheel("beta", "1.1", X86, requires=["epsilon"])
        for older in (ARM, "cp311-cp311-linux_armv7l"):
            index.wheel("gamma", "0.9", older)  # an older one serves: it is not in the way
        index.wheel("gamma", "1.0", X86)
        index.wheel("delta", "1.0")
        index.wheel("epsilon", "2.0", X86)
        with pytest.raises(NoWheels) as caught:
            resolver.resolve(file("alpha"), platform, DEBIAN_12)
        assert caught.value.packages == ("alpha", "beta", "epsilon")
        assert caught.value.message == (
            f"3 packages have no wheel for {platform} with Python 3.11; sources are not built: "
            "alpha (myenv.yml, line 3): none of its versions (the newest is 1.0) has one; "
            "beta: none of its versions (the newest is 1.1) has one; "
            "epsilon: none of its versions (the newest is 2.0) has one. "
            "Where no version has one, build a wheel of it for the platform and name that by its path, "
            "or give an index that has one"
        )

    def test_a_python_is_not_proposed_whose_wheels_are_for_another_platform(
        self, resolver: Resolver, index: Index
    ) -> None:
        index.wheel("alpha", "1.0", "cp312-cp312-manylinux_2_17_x86_64")
        assert "its wheels are for Python 3.12" in failure(resolver, file("alpha"), AMD64).message
        for platform in (ARM64, ARMV7):
            text = failure(resolver, file("alpha"), platform).message
            assert "none of its versions (the newest is 1.0) has one: build a wheel of it for the platform" in text
            assert "3.12" not in text

    def test_the_pythons_that_have_a_wheel_are_named(self, resolver: Resolver, index: Index) -> None:
        for python in ("cp312", "cp313"):
            index.wheel("alpha", "2.0", f"{python}-{python}-manylinux_2_17_x86_64")
        error = failure(resolver, file("alpha"))
        assert "its wheels are for Python 3.12, 3.13: choose one of these" in error.message
        index.wheel("alpha", "1.0", X86)
        error = failure(resolver, file("alpha==2.0"))
        assert "versions that have one: 1.0" in error.message
        assert "that version has wheels for 3.12, 3.13" in error.message

    def test_a_version_that_wants_another_python_is_named(self, resolver: Resolver, index: Index) -> None:
        index.wheel("alpha", "1.0", python=">=3.12")
        error = failure(resolver, file("alpha"))
        assert error.package == "alpha"
        assert "version 1.0 needs Python >=3.12, and the image has 3.11" in error.message
        index.wheel("alpha", "0.9")
        assert resolver.resolve(file("alpha"), AMD64, DEBIAN_12)[0].version == "0.9"


class TestIndexes:
    def test_a_network_that_is_cut_is_said_and_nothing_is_kept(
        self, resolver: Resolver, index: Index, host: str, tmp_path: Path
    ) -> None:
        index.wheel("alpha", "1.0")
        for index.fault in ("cut", "500"):
            with pytest.raises(Unavailable, match=rf"did not answer at http://{host}/simple/alpha/"):
                resolver.resolve(file("alpha"), AMD64, DEBIAN_12)
        assert not (tmp_path / "cache" / "locks").exists()
        index.fault = ""
        assert resolver.resolve(file("alpha"), AMD64, DEBIAN_12)

    def test_an_index_that_asks_for_a_password_is_denied(self, resolver: Resolver, index: Index, host: str) -> None:
        index.wheel("alpha", "1.0")
        index.lock_with("me", "right")
        with pytest.raises(Denied, match="asks for a user and password"):
            resolver.resolve(file("alpha"), AMD64, DEBIAN_12)
        with pytest.raises(Denied, match="asks for a user and password") as caught:
            resolver.resolve(file(f"--index-url http://me:wrong-secret@{host}/simple/", "alpha"), AMD64, DEBIAN_12)
        assert "wrong-secret" not in caught.value.message

    def test_a_password_of_the_file_opens_the_index_and_is_shown_nowhere(
        self, resolver: Resolver, index: Index, host: str, events: list[Event], tmp_path: Path
    ) -> None:
        index.wheel("alpha", "1.0", X86)
        index.wheel("beta", "1.0", ARM)
        index.lock_with("me", "se%cret")
        options = f"--index-url http://me:${{SANDERLING_INDEX_PASSWORD}}@{host}/simple/"
        lines = f"{options}\nalpha\n".encode()
        variables = {"SANDERLING_INDEX_PASSWORD": "se%25cret"}
        environment = parse_requirements(lines, variables=variables)
        (wheel,) = resolver.resolve(environment, AMD64, DEBIAN_12)
        assert wheel.url == f"http://{host}/files/alpha-1.0-{X86}.whl"
        failed = parse_requirements(lines.replace(b"alpha", b"beta"), variables=variables)
        error = failure(resolver, failed)
        assert (
            "none of its versions (the newest is 1.0) has one" in error.message
        )  # the page was read with the password
        kept = next((tmp_path / "cache" / "locks").iterdir()).read_text()
        assert "cret" not in " ".join([kept, error.message, *(event.text for event in events)])


@pytest.mark.usefixtures("host")
class TestArm32:
    """linux/arm/v7, which uv has no name for."""

    def test_the_wheels_of_the_processor_are_chosen_and_older_versions_when_the_newest_has_none(
        self, resolver: Resolver, index: Index
    ) -> None:
        index.wheel("alpha", "1.0", "cp311-cp311-linux_armv7l")
        index.wheel("alpha", "2.0", "cp311-cp311-manylinux_2_17_aarch64")
        index.wheel("beta", "1.0", "cp311-cp311-manylinux2014_armv7l.manylinux_2_17_armv7l")
        index.wheel("beta", "1.0", "cp311-cp311-manylinux_2_31_armv7l")
        index.wheel("beta", "1.0", "cp311-cp311-manylinux_2_41_armv7l")
        index.wheel("gamma", "1.0", requires=["alpha ; platform_machine == 'armv7l'"])
        wheels = resolver.resolve(file("beta", "gamma"), ARMV7, DEBIAN_12)
        assert [wheel.file_name for wheel in wheels] == [
            "alpha-1.0-cp311-cp311-linux_armv7l.whl",
            "beta-1.0-cp311-cp311-manylinux_2_31_armv7l.whl",
            "gamma-1.0-py3-none-any.whl",
        ]

    def test_a_platform_that_nobody_knows_is_refused(self, resolver: Resolver) -> None:
        with pytest.raises(Invalid, match=r"possible are linux/amd64, linux/arm64, linux/arm/v7"):
            resolver.resolve(file("alpha"), Platform("linux", "s390x"), DEBIAN_12)
