import gzip
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from backports import zstd
from tests.edge.worlds import file, folder, link, tar

from sanderling.errors import Invalid
from sanderling.oci import Digest, DigestMismatch, media_types
from sanderling.sandbox.unpack import unpack_layer


def unpack(tmp_path: Path, layer: bytes, **limits: int) -> Path:
    blob = tmp_path / "blob"
    blob.write_bytes(gzip.compress(layer, 1))
    target = tmp_path / "layers" / "one"
    target.parent.mkdir(exist_ok=True)
    unpack_layer(blob, media_types.OCI_LAYER_GZIP, Digest.of(layer), target, **limits)
    return target / "fs"


def test_files_folders_and_links_come_out_as_they_are(tmp_path: Path) -> None:
    layer = tar(
        [
            folder("./usr"),
            file("./usr/tool", b"x" * 70_000, 0o755),
            link("./usr/alias", "tool"),
            link("./usr/twin", "usr/tool", tarfile.LNKTYPE),
            file("/absolute/names/are/below/the/root", b"1"),
            file("long/" + "n" * 120 + "/" + "m" * 200, b"pax"),
        ]
    )
    fs = unpack(tmp_path, layer)
    assert (fs / "usr/tool").read_bytes() == b"x" * 70_000
    assert os.access(fs / "usr/tool", os.X_OK)
    assert str((fs / "usr/alias").readlink()) == "tool"
    assert (fs / "usr/twin").samefile(fs / "usr/tool")
    assert (fs / "absolute/names/are/below/the/root").read_bytes() == b"1"
    assert (fs / "long" / ("n" * 120) / ("m" * 200)).read_bytes() == b"pax"


def test_gnu_long_names_are_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info, content = file("d/" + "g" * 180, b"gnu")
        archive.addfile(info, io.BytesIO(content))
        info, _ = link("l", "t" * 150)
        archive.addfile(info)
    fs = unpack(tmp_path, out.getvalue())
    assert (fs / "d" / ("g" * 180)).read_bytes() == b"gnu"
    assert str((fs / "l").readlink()) == "t" * 150


def test_a_gzip_of_several_members_is_one_layer(tmp_path: Path) -> None:
    layer = tar([file("a", b"1" * 2000)])
    blob = tmp_path / "blob"
    blob.write_bytes(gzip.compress(layer[:700]) + gzip.compress(layer[700:]))
    (tmp_path / "layers").mkdir()
    unpack_layer(blob, media_types.OCI_LAYER_GZIP, Digest.of(layer), tmp_path / "layers/one")
    assert (tmp_path / "layers/one/fs/a").read_bytes() == b"1" * 2000


@pytest.mark.parametrize(
    "entries",
    [
        [file("../escaped", b"x")],
        [file("a/../../escaped", b"x")],
        [file("/../escaped", b"x")],
        [link("out", "/"), file("out/escaped", b"x")],
        [link("out", ".."), file("out/escaped", b"x")],
        [link("out", "../.."), folder("out/escaped")],
        [link("hard", "../../secret", tarfile.LNKTYPE)],
        [link("hard", "/etc/passwd", tarfile.LNKTYPE)],
        [link("out", "../../.."), link("hard", "out/secret", tarfile.LNKTYPE)],
        [link("self", "secret"), link("hard", "self", tarfile.LNKTYPE)],
        [file("plain", b"x"), file("plain/below", b"x")],
        [file("x/.wh...", b"")],
    ],
)
def test_what_would_leave_the_image_is_refused_and_leaves_nothing(tmp_path: Path, entries: list) -> None:
    secret = tmp_path / "secret"
    secret.write_text("untouched")
    with pytest.raises(Invalid):
        unpack(tmp_path, tar(entries))
    assert secret.read_text() == "untouched"
    assert not list((tmp_path / "layers").iterdir())
    assert not list(tmp_path.rglob("escaped"))


def test_a_file_on_a_link_replaces_the_link_not_its_target(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("untouched")
    fs = unpack(tmp_path, tar([link("f", str(secret)), file("f", b"new"), link("d", str(tmp_path)), folder("d")]))
    assert secret.read_text() == "untouched"
    assert (fs / "f").read_bytes() == b"new"
    assert not (fs / "f").is_symlink()
    assert (fs / "d").is_dir()
    assert not (fs / "d").is_symlink()


def test_devices_and_pipes_are_never_made(tmp_path: Path) -> None:
    device = tarfile.TarInfo("dev/sda")
    device.type, device.devmajor, device.devminor = tarfile.BLKTYPE, 8, 0
    pipe = tarfile.TarInfo("pipe")
    pipe.type = tarfile.FIFOTYPE
    fs = unpack(tmp_path, tar([(device, b""), (pipe, b""), file("kept", b"1")]))
    assert [p.name for p in fs.rglob("*")] == ["kept"]


def test_set_user_id_is_dropped_and_what_the_owner_reads_all_may(tmp_path: Path) -> None:
    fs = unpack(tmp_path, tar([file("su", b"x", 0o4700), file("private", b"x", 0o600), folder("closed", 0o700)]))
    assert stat.S_IMODE((fs / "su").stat().st_mode) == 0o755
    assert stat.S_IMODE((fs / "private").stat().st_mode) == 0o644
    assert stat.S_IMODE((fs / "closed").stat().st_mode) == 0o755


def test_a_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="unpacks to more than 1000000 bytes"):
        unpack(tmp_path, tar([file("zeros", bytes(5_000_000))]), max_bytes=1_000_000)
    with pytest.raises(Invalid, match="more files than the limit"):
        unpack(tmp_path, tar([file(f"f{n}") for n in range(50)]), max_entries=20)
    assert not list((tmp_path / "layers").iterdir())


def test_a_header_extension_is_bounded(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 8 * 1024**3
    with pytest.raises(Invalid, match="header extension"):
        unpack(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


def test_content_that_is_not_what_the_config_promises_is_refused(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(gzip.compress(tar([file("a", b"evil")])))
    (tmp_path / "layers").mkdir()
    with pytest.raises(DigestMismatch):
        unpack_layer(blob, media_types.OCI_LAYER_GZIP, Digest.of(b"promised"), tmp_path / "layers/one")
    assert not list((tmp_path / "layers").iterdir())


def test_bytes_after_the_end_of_the_tar_count(tmp_path: Path) -> None:
    layer = tar([file("a", b"1")]) + b"hidden"
    assert (unpack(tmp_path, layer) / "a").exists()


@pytest.mark.parametrize("cut", [100, 600, 1200, -3])
def test_a_cut_layer_is_refused(tmp_path: Path, cut: int) -> None:
    whole = tar([file("a", os.urandom(900)), file("b", os.urandom(9000))])
    blob = tmp_path / "blob"
    blob.write_bytes(gzip.compress(whole)[:cut])
    (tmp_path / "layers").mkdir()
    with pytest.raises(Invalid):
        unpack_layer(blob, media_types.OCI_LAYER_GZIP, Digest.of(whole), tmp_path / "layers/one")
    assert not list((tmp_path / "layers").iterdir())


@pytest.mark.parametrize("junk", [b"not a tar" * 200, b"\xff" * 2048, b"12 path=x\n" * 100])
def test_junk_is_refused(tmp_path: Path, junk: bytes) -> None:
    with pytest.raises(Invalid):
        unpack(tmp_path, junk)


def test_zstd_is_unpacked_frame_after_frame(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    whole = tar([file("a", content)])
    (tmp_path / "blob").write_bytes(zstd.compress(whole[:50_000]) + zstd.compress(whole[50_000:]))
    unpack_layer(tmp_path / "blob", media_types.OCI_LAYER_ZSTD, Digest.of(whole), tmp_path / "one")
    assert (tmp_path / "one" / "fs" / "a").read_bytes() == content


def test_zstd_that_asks_for_too_much_memory_or_is_cut_is_refused(tmp_path: Path) -> None:
    whole = tar([file("a", os.urandom(1000))])
    wide = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 30})
    for number, raw in enumerate((wide.compress(whole) + wide.flush(), zstd.compress(whole)[:-5], b"junk" * 9)):
        (tmp_path / "blob").write_bytes(raw)
        with pytest.raises(Invalid):
            unpack_layer(tmp_path / "blob", media_types.OCI_LAYER_ZSTD, Digest.of(whole), tmp_path / str(number))


def test_an_unknown_compression_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"")
    with pytest.raises(Invalid, match="only gzip, zstd and plain tar"):
        unpack_layer(tmp_path / "blob", "application/x-lzma", Digest.of(b""), tmp_path / "one")
