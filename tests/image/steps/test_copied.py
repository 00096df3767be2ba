"""COPY and ADD."""

import io
import random
import re
import tarfile

import pytest

from sanderling.dockerfile import DockerfileInvalid
from tests.image.steps.conftest import World


def tar_of(files: dict[str, bytes | str], mode: str = "w") -> bytes:
    """An archive: content by path; a text is the target of a link; a path with a slash at its end is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.uid, info.gid, info.mode, info.mtime = 7, 8, 0o640, 12345
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            elif name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o750
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


class TestWhereFilesGo:
    @pytest.mark.parametrize(
        ("step", "places"),
        [
            ("COPY a.txt /opt/b.txt", ["opt/b.txt"]),
            ("COPY a.txt /opt/", ["opt/a.txt"]),
            ("COPY a.txt /opt", ["opt/a.txt"]),
            ("COPY a.txt /opt/new/x", ["opt/new/x"]),
            ("COPY a.txt data/", ["var/azureml-app/data/a.txt"]),
            ("WORKDIR /srv\nCOPY a.txt .", ["srv/a.txt"]),
            ("COPY sub /opt/x", ["opt/x/b.txt", "opt/x/deep/c.txt"]),
            ("COPY sub/ /opt/x/", ["opt/x/b.txt", "opt/x/deep/c.txt"]),
            ("COPY a*.txt /opt/", ["opt/a b.txt", "opt/a.txt"]),
            ("COPY sub/*.txt sub/d* /opt/", ["opt/b.txt", "opt/c.txt"]),
            ('COPY ["a b.txt", "/opt/a b.txt"]', ["opt/a b.txt"]),
            ("COPY . /x", ["x/a b.txt", "x/a.txt", "x/sub/b.txt", "x/sub/deep/c.txt"]),
            ("COPY a.txt /", ["a.txt"]),
            ("ENV D=/opt N=a\nCOPY ${N}.txt ${D}/", ["opt/a.txt"]),
            ("ARG N=a\nCOPY $N.txt /opt/", ["opt/a.txt"]),
        ],
    )
    def test_as_the_reference_of_docker_says(self, world: World, step: str, places: list[str]) -> None:
        world.write({"a.txt": b"a", "a b.txt": b"ab", "sub/b.txt": b"b", "sub/deep/c.txt": b"c"})
        assert sorted(world.files(step)) == places

    def test_folders_that_are_there_keep_mode_and_owner(self, world: World) -> None:
        world.write({"a.txt": b"a"})
        (made,) = world.apply("COPY a.txt a.txt /tmp/").layers
        assert world.members(made.layer)["tmp"].mode == 0o1777
        (made,) = world.apply("COPY a.txt /home/app/x/").layers
        members = world.members(made.layer)
        assert (members["home/app"].mode, members["home/app"].uid, members["home/app"].gid) == (0o700, 1001, 1002)
        assert (members["home/app/x"].mode, members["home/app/x"].uid) == (0o755, 0)

    def test_links_to_folders_are_followed_and_stay(self, world: World) -> None:
        world.write({"tool": b"t", "tree/bin/other": b"o"})
        assert list(world.files("COPY tool /bin/")) == ["usr/bin/tool"]
        assert list(world.files("COPY tool /opt/current")) == ["opt/v1/tool"]
        assert list(world.files("COPY tree /")) == ["usr/bin/other"]
        (made,) = world.apply("COPY tool /bin/").layers
        assert "bin" not in world.members(made.layer)

    def test_a_step_sees_what_earlier_steps_made(self, world: World) -> None:
        world.write({"a.txt": b"a", "c.txt": b"c", "links.tar": tar_of({"now": "releases/1", "releases/1/": b""})})
        assert list(world.files("COPY a.txt /srv/x/\nCOPY c.txt /srv/x")) == ["srv/x/a.txt", "srv/x/c.txt"]
        assert "srv/releases/1/a.txt" in world.files("ADD links.tar /srv\nCOPY a.txt /srv/now/")

    def test_what_is_in_the_way_is_named_with_its_line(self, world: World) -> None:
        world.write({"a.txt": b"a"})
        for step, why in (
            ("COPY a.txt /etc/passwd/x", "/etc/passwd is no folder"),
            ("COPY a.txt /opt/nowhere/", "/opt/nowhere is a link to nothing"),
        ):
            with pytest.raises(DockerfileInvalid, match=rf"Dockerfile, line 2: COPY: {why}"):
                world.apply(f"ENV A=1\n{step}")


class TestModesAndOwners:
    def test_files_are_root_s_and_readable_and_programs_can_be_run(self, world: World) -> None:
        world.write({"a.txt": b"a", "tool": b"t"})
        (world.folder / "tool").chmod(0o700)
        (world.folder / "a.txt").chmod(0o600)
        (made,) = world.apply("COPY a.txt tool /opt/").layers
        members = world.members(made.layer)
        assert [(m.mode, m.uid, m.gid, m.mtime) for m in (members["opt/a.txt"], members["opt/tool"])] == [
            (0o644, 0, 0, 0),
            (0o755, 0, 0, 0),
        ]

    @pytest.mark.parametrize(
        ("chown", "numbers"),
        [("5:6", (5, 6)), ("5", (5, 5)), ("app", (1001, 1002)), ("app:web", (1001, 33)), ("root:web", (0, 33))],
    )
    def test_chown_and_chmod_set_them(self, world: World, chown: str, numbers: tuple[int, int]) -> None:
        world.write({"a.txt": b"a"})
        (made,) = world.apply(f"COPY --chown={chown} --chmod=0750 --link a.txt /srv/").layers
        members = world.members(made.layer)
        assert (members["srv/a.txt"].mode, members["srv/a.txt"].uid, members["srv/a.txt"].gid) == (0o750, *numbers)
        assert (members["srv"].mode, members["srv"].uid, members["srv"].gid) == (0o755, *numbers)

    def test_an_unknown_user_is_refused(self, world: World) -> None:
        world.write({"a.txt": b"a"})
        with pytest.raises(DockerfileInvalid, match="line 1: COPY --chown=who: the image has no such user"):
            world.apply("COPY --chown=who a.txt /x")


class TestArchives:
    @pytest.mark.parametrize("packed", ["w", "w:gz", "w:bz2", "w:xz"])
    def test_add_unpacks_them_with_their_owners_and_modes(self, world: World, packed: str) -> None:
        archive = tar_of({"./d/": b"", "d/x": b"xx", "/abs": b"abs", "link": "d/x"}, packed)
        world.write({"all.data": archive})
        assert world.files("ADD all.data /srv") == {"srv/abs": "abs", "srv/d/x": "xx", "srv/link": "-> d/x"}
        (made,) = world.apply("ADD all.data /srv").layers
        x = world.members(made.layer)["srv/d/x"]
        assert (x.uid, x.gid, x.mode, x.mtime) == (7, 8, 0o640, 0)
        assert world.members(made.layer)["srv/d"].mode == 0o750
        (made,) = world.apply("ADD --chown=1:2 all.data /srv").layers
        assert world.members(made.layer)["srv/d/x"].gid == 2

    def test_copy_leaves_them_whole_and_so_does_add_what_is_no_archive(self, world: World) -> None:
        world.write({"a.txt": b"plain"})
        assert world.files("ADD a.txt /srv/") == {"srv/a.txt": "plain"}
        world.write({"a.tar": tar_of({"x": b"x"})})
        assert next(iter(world.files("COPY a.tar /srv/a.tar").values())).startswith("x\0")

    @pytest.mark.parametrize(
        ("files", "why"),
        [
            ({"../out": b"x"}, "leads outside"),
            ({"a/../../out": b"x"}, "leads outside"),
            ({"a": "/etc", "a/passwd": b"x"}, "is no folder"),
        ],
    )
    def test_those_that_reach_outside_are_refused(self, world: World, files: dict[str, bytes | str], why: str) -> None:
        world.write({"a.tar": tar_of(files)})
        with pytest.raises(DockerfileInvalid, match=rf"line 1: ADD: .*{why}"):
            world.apply("ADD a.tar /srv")

    def test_a_broken_one_is_refused(self, world: World) -> None:
        world.write({"a.tar.gz": tar_of({"x": random.Random(1).randbytes(10_000)}, "w:gz")[:2000]})
        with pytest.raises(DockerfileInvalid, match=r"line 1: ADD: a\.tar\.gz cannot be unpacked"):
            world.apply("ADD a.tar.gz /srv/")


class TestSourcesThatAreRefused:
    @pytest.mark.parametrize(
        ("step", "why"),
        [
            ("COPY gone.txt /x", "COPY gone.txt: no such file is beside the Dockerfile"),
            ("COPY *.md /x/", r"COPY \*.md: no such file"),
            ("COPY ../a.txt /x", "leads out of the folder of the Dockerfile"),
            ("COPY sub/../../a /x", "leads out of the folder of the Dockerfile"),
            ("ADD https://user:secret@example.org/x /x", "nothing is fetched here; download it and name the file"),
            ("ADD git@example.org:x.git /x", "nothing is fetched here"),
            ("COPY --from=build /a /b", "there is no other stage"),
            ("COPY --chmod=u+x a.txt /b", "write the mode as a number"),
            ("COPY --parents a.txt /b", "--parents is not known"),
            ("COPY a.txt sub /x", "several are copied"),
            ("COPY [as] /x/", r"no such file|opens a bracket"),
            ("COPY * /x", "2 things are copied"),
            ("COPY a.txt", "needs what is copied, and where it goes"),
            ("COPY [z-a] /x", "backwards"),
        ],
    )
    def test_with_line_and_reason(self, world: World, step: str, why: str) -> None:
        world.write({"a.txt": b"a", "sub/b.txt": b"b"})
        with pytest.raises(DockerfileInvalid, match=rf"Dockerfile, line 2: .*{why}") as caught:
            world.apply(f"# a comment\n{step}")
        assert "secret" not in caught.value.message


class TestSameBytes:
    def test_layers_are_found_again_and_made_anew_when_a_file_changes(self, world: World) -> None:
        world.write({"a.txt": b"a", "b.txt": b"b"})
        steps = "COPY a.txt /srv/\nCOPY b.txt /srv/"
        first = world.apply(steps)
        again = world.apply(steps)
        assert [made.was_cached for made in again.layers] == [True, True]
        assert [made.layer.digest for made in again.layers] == [made.layer.digest for made in first.layers]
        world.write({"b.txt": b"other"})
        assert [made.was_cached for made in world.apply(steps).layers] == [True, False]

    def test_a_title_says_the_step(self, world: World) -> None:
        world.write({"a.txt": b"a"})
        (made,) = world.apply("COPY --chown=1:2   a.txt \\\n  /srv/").layers
        assert made.layer.title == "COPY --chown=1:2 a.txt /srv/"
        assert re.fullmatch(r"sha256:\w{64}", made.layer.digest)
