import asyncio
import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sanderling.errors import Invalid, NotFound, SanderlingError
from sanderling.oci import Digest, canonical_json
from sanderling.transfer.copying import copy
from sanderling.transfer.places import Address, DockerArchivePlace, LayoutPlace, OciArchivePlace
from sanderling.transfer.places.tar_index import TarIndex
from tests.transfer.images import Made, layer_tar

pytestmark = pytest.mark.anyio


def tar_of(
    files: dict[str, bytes], links: dict[str, tuple[bytes, str]] | None = None, form: int = tarfile.PAX_FORMAT
) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for name, (kind, target) in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
    return stream.getvalue()


def indexed(folder: Path, raw: bytes) -> TarIndex:
    path = folder / "t.tar"
    path.write_bytes(raw)
    with path.open("rb") as file:
        return TarIndex(file, "t.tar")


def older_archive(names: list[str] | None = None, linked: bool = False) -> tuple[bytes, list[Digest]]:
    """What `docker save` wrote before Docker 25: two layers, the second may be a link to the first."""
    tars = [layer_tar("a", b"a" * 5000), layer_tar("b", b"b" * 5000)]
    if linked:
        tars[1] = tars[0]
    config = canonical_json(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [Digest.of(t) for t in tars]}}
    )
    hex_name = Digest.of(config).hex
    files = {f"{hex_name}.json": config, "id0/layer.tar": tars[0], "id0/json": b"{}", "id0/VERSION": b"1.0"}
    links = {"id1/layer.tar": (tarfile.SYMTYPE, "../id0/layer.tar")} if linked else {}
    if not linked:
        files["id1/layer.tar"] = tars[1]
    entry = {"Config": f"{hex_name}.json", "RepoTags": names, "Layers": ["id0/layer.tar", "id1/layer.tar"]}
    files["manifest.json"] = json.dumps([entry]).encode()
    return tar_of(files, links), [Digest.of(tar) for tar in tars]


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("packed", [False, True])
async def test_an_older_docker_archive_is_read(tmp_path: Path, linked: bool, packed: bool) -> None:
    raw, diff_ids = older_archive(["demo/a:1", "demo/a:2"], linked)
    (tmp_path / "d.tar").write_bytes(gzip.compress(raw) if packed else raw)
    archive = DockerArchivePlace(tmp_path / "d.tar")
    assert await archive.tags() == ["demo/a:1", "demo/a:2"]
    digests = set()
    for name in ("demo/a:1", "docker.io/demo/a:2", "@0", ""):
        result = await copy(archive, LayoutPlace(tmp_path / "b"), [(name, "1")])
        digests |= set(result.digests.values())
    assert len(digests) == 1
    assert {digest.hex for digest in diff_ids} <= {path.name for path in (tmp_path / "b/blobs/sha256").iterdir()}
    with pytest.raises(NotFound, match="it has demo/a:1, demo/a:2"):
        await archive.resolve("demo/b:1")
    await archive.aclose()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(Config="../../etc/passwd"),
        lambda m: m.update(Config="/etc/passwd"),
        lambda m: m.update(Layers=["/etc/passwd", "id1/layer.tar"]),
        lambda m: m.update(Layers=["id0/layer.tar"]),
        lambda m: m.update(Layers=["id0/layer.tar", "id0/layer.tar"]),
        lambda m: m.update(Layers=[1, 2]),
        lambda m: m.update(Layers=None),
        lambda m: m.update(RepoTags="x"),
        lambda m: m.pop("Config"),
        lambda m: m.update(Config="id0/layer.tar"),
    ],
)
async def test_docker_archives_that_lie_are_refused(tmp_path: Path, change: object) -> None:
    raw, _ = older_archive(["demo/a:1"])
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    document = json.loads(files["manifest.json"])
    change(document[0])  # type: ignore[operator]
    files["manifest.json"] = json.dumps(document).encode()
    (tmp_path / "d.tar").write_bytes(tar_of(files))
    with pytest.raises((Invalid, NotFound)):
        await copy(DockerArchivePlace(tmp_path / "d.tar"), LayoutPlace(tmp_path / "b"), [("", "1")])
    assert not (tmp_path / "b/index.json").exists()


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"\0" * 10240, b"no tar at all" * 1000, b"\x28\xb5\x2f\xfd rest", b"\x1f\x8b rest"]
)
async def test_what_is_no_archive_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(raw)
    for place in (OciArchivePlace(tmp_path / "x.tar"), DockerArchivePlace(tmp_path / "x.tar")):
        with pytest.raises(Invalid):
            await place.resolve("")
        await place.aclose()
    with pytest.raises(NotFound):
        await OciArchivePlace(tmp_path / "gone.tar").resolve("")


async def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sanderling.transfer.places.tar_content._RATIO_FROM_BYTES", 1_000_000)
    (tmp_path / "x.tar").write_bytes(gzip.compress(bytes(20_000_000)))
    with pytest.raises(Invalid, match="unpacks to far more"):
        await OciArchivePlace(tmp_path / "x.tar").resolve("")


async def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    made = Made()
    made.name(made.image(), "1")
    raw = tar_of(made.files())
    for length in (600, len(raw) // 2, len(raw) - 12_000):
        (tmp_path / "x.tar").write_bytes(raw[:length])
        with pytest.raises(SanderlingError):
            await copy(OciArchivePlace(tmp_path / "x.tar"), LayoutPlace(tmp_path / "b"), [("1", "1")])


# The index of a tar


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_are_found_as_tar_writes_them(tmp_path: Path, form: int) -> None:
    long_name = "/".join(["folder" * 5] * 4) + "/file"
    names = ["a", "./b", "c/./d", long_name]
    index = indexed(tmp_path, tar_of({name: name.encode() for name in names}, form=form))
    raw = (tmp_path / "t.tar").read_bytes()
    for name in ("a", "b", "c/d", long_name):
        found = index.find(name)
        assert found is not None
        assert raw[found.offset : found.offset + found.size].endswith(name.rpartition("/")[2].encode())


def test_the_last_of_two_counts_and_paths_that_go_up_are_left_out(tmp_path: Path) -> None:
    raw = (
        tar_of({"a": b"first", "../up": b"x", "/root": b"x", "b/../../c": b"x"}).removesuffix(bytes(1024)).rstrip(b"\0")
    )
    raw += bytes(-len(raw) % 512) + tar_of({"a": b"second!"})
    index = indexed(tmp_path, raw)
    assert index.names() == ["a"]
    found = index.find("a")
    assert found is not None
    assert found.size == 7


def test_links_lead_within_the_tar_alone_and_not_in_circles(tmp_path: Path) -> None:
    links = {
        "hard": (tarfile.LNKTYPE, "file"),
        "f/soft": (tarfile.SYMTYPE, "../file"),
        "outside": (tarfile.SYMTYPE, "/etc/passwd"),
        "up": (tarfile.SYMTYPE, "../../etc/passwd"),
        "ring": (tarfile.SYMTYPE, "gnir"),
        "gnir": (tarfile.SYMTYPE, "ring"),
        "self": (tarfile.SYMTYPE, "self"),
    }
    index = indexed(tmp_path, tar_of({"file": b"x"}, links))
    assert index.find("hard") == index.find("f/soft") == index.find("file")
    assert [name for name in ("outside", "up", "ring", "self", "nothing", "", "..") if index.find(name)] == []


def test_sizes_and_headers_that_lie_are_refused(tmp_path: Path) -> None:
    def header(size: bytes, kind: bytes = b"0") -> bytes:
        block = bytearray(tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT))
        block[124:136] = size.ljust(12, b"\0")
        block[156:157] = kind
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return bytes(block)

    for size in (b"77777777777", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-1", b"8", b"x"):
        for kind in (b"0", b"x", b"L"):
            with pytest.raises(Invalid):
                indexed(tmp_path, header(size, kind) + bytes(2048))
    big = header(b"%011o" % (2 << 20), b"x") + bytes(3 << 20)
    with pytest.raises(Invalid, match="is the limit"):
        indexed(tmp_path, big)
    with pytest.raises(Invalid, match="sum of a header"):
        indexed(tmp_path, b"a" * 512 + bytes(1024))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_a_tar_with_any_bytes_changed_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(tar_of({"a" * 120: b"x" * 700, "b": b"y"}, {"c": (tarfile.SYMTYPE, "b")}))
    for position in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=8)):
        raw[position] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(0, len(raw))) :]
    try:
        index = indexed(tmp_path, bytes(raw))
    except Invalid:
        return
    for name in index.names():
        found = index.find(name)
        assert found is not None
        assert 0 <= found.offset <= found.offset + found.size <= len(raw)
        assert ".." not in name.split("/")


@given(st.text(max_size=60))
def test_an_address_is_read_or_refused(text: str) -> None:
    for prefix in ("", "oci:", "docker-archive:", "oci-archive:", "docker://"):
        try:
            made = Address.parse(prefix + text)
        except Invalid:
            continue
        assert made.path or made.repository


@pytest.mark.parametrize(
    ("text", "kind", "place", "reference"),
    [
        ("localhost:8443/demo/digits:1", "registry", "localhost:8443/demo/digits", "1"),
        ("docker://localhost:8443/demo/digits", "registry", "localhost:8443/demo/digits", ""),
        ("debian:12", "registry", "docker.io/library/debian", "12"),
        (f"a.b/c@{Digest.of(b'')}", "registry", "a.b/c", str(Digest.of(b""))),
        ("oci:dir", "oci", "oci:dir", ""),
        ("oci:/a/dir:localhost:8443/demo/digits:1", "oci", "oci:/a/dir", "localhost:8443/demo/digits:1"),
        (f"oci:dir@{Digest.of(b'')}", "oci", "oci:dir", str(Digest.of(b""))),
        ("docker-archive:x.tar:demo/digits:1", "docker-archive", "docker-archive:x.tar", "demo/digits:1"),
    ],
)
def test_addresses_are_read_as_skopeo_reads_them(text: str, kind: str, place: str, reference: str) -> None:
    made = Address.parse(text)
    assert (made.kind, made.place, made.reference) == (kind, place, reference)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["id0/layer.tar", "config.json"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Config", "Layers", "RepoTags", "manifests", "digest", "size"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(st.one_of(JSON.map(lambda value: json.dumps(value).encode()), st.binary(max_size=60)))
def test_whatever_the_documents_of_a_place_say_it_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": content, "manifest.json": content}
    files |= {"id0/layer.tar": b"x", "config.json": content}
    (tmp_path / "x.tar").write_bytes(tar_of(files))
    LayoutPlace(tmp_path / "a").folder.mkdir(exist_ok=True)
    for name in ("oci-layout", "index.json"):
        (tmp_path / "a" / name).write_bytes(files[name])

    async def read() -> None:
        for place in (
            LayoutPlace(tmp_path / "a"),
            OciArchivePlace(tmp_path / "x.tar"),
            DockerArchivePlace(tmp_path / "x.tar"),
        ):
            try:
                await copy(place, LayoutPlace(tmp_path / "b"), [("", "1")])
            except SanderlingError:
                continue
            finally:
                await place.aclose()

    asyncio.run(read())
