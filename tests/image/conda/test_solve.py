"""Choosing conda packages from real channels: folders, and a server with TLS."""

import base64
import datetime
import ipaddress
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sanderling.errors import Invalid
from sanderling.image import Event, Log
from sanderling.image.conda.lock import CondaLock
from sanderling.image.conda.solve import CondaSolver
from sanderling.image.conda.solve_errors import CondaUnsolvable
from sanderling.image.conda.wish import read_wish
from sanderling.image.environment.conda_part import CondaPart
from sanderling.oci import Platform
from tests.image.conda.conftest import AMD64, ARM64, ARMV7
from tests.image.conda.packages import CondaPackage, fake_python, make_channel
from tests.image.servers import FileServer, serving

GLIBC = (2, 36)
Solve = Callable[..., dict[Platform, CondaLock]]


@pytest.fixture
def channel(tmp_path: Path) -> str:
    return make_channel(
        tmp_path / "channel",
        fake_python("3.11.7"),
        fake_python("3.12.1"),
        fake_python("3.11.7", "linux-aarch64"),
        CondaPackage("alpha", "1.0", depends=("python", "beta >=1")),
        CondaPackage("alpha", "1.0", subdir="linux-aarch64", depends=("python", "beta >=1")),
        CondaPackage("beta", "2.0", noarch="python", depends=("python",)),
        CondaPackage("old", "1.0", depends=("python", "beta <2")),
        CondaPackage("newer-glibc", depends=("__glibc >=2.40",)),
        CondaPackage("fast", depends=("__archspec * x86_64_v4",)),
        CondaPackage("only-amd64"),
    )


@pytest.fixture
def solve(tmp_path: Path, channel: str, log: Log) -> Solve:
    def call(
        *specs: str, channels: tuple[str, ...] = (channel,), platforms: tuple[Platform, ...] = (AMD64,)
    ) -> dict[Platform, CondaLock]:
        return CondaSolver(tmp_path / "cache", log).solve(CondaPart(channels, specs), platforms, GLIBC)

    return call


def names(lock: CondaLock) -> dict[str, str]:
    return {package.name: package.version for package in lock.packages}


class TestChoice:
    def test_what_a_package_needs_comes_with_it_and_python_always(self, solve: Solve) -> None:
        lock = solve("alpha")[AMD64]
        assert names(lock) == {"alpha": "1.0", "beta": "2.0", "python": "3.12.1"}
        assert [package.subdir for package in lock.packages] == ["linux-64", "noarch", "linux-64"]
        assert names(solve("only-amd64")[AMD64]) == {"only-amd64": "1.0", "python": "3.12.1"}

    def test_the_lock_says_where_each_is_and_what_it_must_be(self, solve: Solve, channel: str, tmp_path: Path) -> None:
        beta = solve("alpha")[AMD64].find("beta")
        assert beta is not None
        assert beta.url == f"{channel}/noarch/beta-2.0-0.conda"
        content = (tmp_path / "channel" / "noarch" / "beta-2.0-0.conda").read_bytes()
        assert (str(beta.digest), beta.size_bytes) == (str(type(beta.digest).of(content)), len(content))
        assert beta.is_noarch_python

    def test_the_interpreter_is_that_of_the_packages(self, solve: Solve) -> None:
        python = solve("python=3.11")[AMD64].interpreter(GLIBC)
        assert (python.version, python.prefix) == ("3.11", "opt/conda")
        assert python.site == "opt/conda/lib/python3.11/site-packages"
        assert python.executable == "/opt/conda/bin/python3"
        assert python.glibc == GLIBC

    def test_all_platforms_get_the_same_minor_version_of_python(self, solve: Solve) -> None:
        locks = solve("alpha", platforms=(AMD64, ARM64))
        assert {platform: lock.python.version for platform, lock in locks.items()} == {
            AMD64: "3.11.7",
            ARM64: "3.11.7",
        }

    def test_the_first_channel_that_has_a_package_is_the_only_one_for_it(self, solve: Solve, tmp_path: Path) -> None:
        first = make_channel(tmp_path / "first", CondaPackage("beta", "1.5", noarch="python", depends=("python",)))
        second = (tmp_path / "channel").as_uri()
        assert names(solve("beta", channels=(first, second))[AMD64])["beta"] == "1.5"
        assert names(solve("beta", channels=(second, first))[AMD64])["beta"] == "2.0"

    def test_a_specification_may_name_its_channel(self, solve: Solve, tmp_path: Path, channel: str) -> None:
        first = make_channel(tmp_path / "first", CondaPackage("beta", "1.5", noarch="python", depends=("python",)))
        assert names(solve(f"{first}::beta", "python")[AMD64])["beta"] == "1.5"

    def test_names_of_channels_in_specifications_count_as_in_the_list(self) -> None:
        wish = read_wish(CondaPart(("conda-forge",), ("bioconda::samtools >=1.2", "python=3.11")), AMD64, GLIBC)
        assert [channel.url for channel in wish.channels] == [
            "https://conda.anaconda.org/conda-forge",
            "https://conda.anaconda.org/bioconda",
        ]
        assert wish.specs == ("https://conda.anaconda.org/bioconda::samtools >=1.2", "python=3.11")

    @pytest.mark.parametrize(
        ("spec", "is_python"),
        [("python", True), ("python=3.11", True), ("python >=3.9", True), ("conda-forge::python", True),
         ("python[version='3.11.*']", True), ("python-dateutil", False), ("python_abi", False), ("ipython", False)],
    )  # fmt: skip
    def test_python_is_added_unless_it_is_named(self, spec: str, is_python: bool) -> None:
        wish = read_wish(CondaPart(("conda-forge",), (spec,)), AMD64, GLIBC)
        assert (wish.specs[-1] == "python") == (spec == "python" or not is_python)

    def test_pip_is_not_brought_for_it_has_nothing_to_do_in_an_image(self) -> None:
        part = CondaPart(("conda-forge",), ("pip", "pip=24.0", "conda-forge::pip", "pip-tools"))
        assert read_wish(part, AMD64, GLIBC).specs == ("pip-tools", "python")


class TestRefusals:
    def test_a_package_that_is_nowhere_is_named_with_the_channels_and_names_like_it(
        self, solve: Solve, channel: str
    ) -> None:
        with pytest.raises(CondaUnsolvable, match=r"'alpah'.*did you mean alpha\?") as caught:
            solve("alpah")
        assert caught.value.package == "alpah"
        assert channel in caught.value.message

    def test_a_package_of_another_platform_is_said_to_be_there(self, solve: Solve) -> None:
        with pytest.raises(CondaUnsolvable, match=r"'only-amd64'.*for linux-aarch64; there it is for linux-64 only"):
            solve("only-amd64", platforms=(ARM64,))

    def test_a_platform_without_any_package_is_refused_in_the_same_way(self, solve: Solve) -> None:
        with pytest.raises(CondaUnsolvable, match="for linux-armv7l"):
            solve("alpha", platforms=(ARMV7,))

    def test_a_conflict_is_told_in_the_words_of_the_solver(self, solve: Solve) -> None:
        with pytest.raises(CondaUnsolvable, match=r"old 1\.0 would require") as caught:
            solve("alpha", "old")
        assert "beta <2" in caught.value.message
        assert "Loosen" in caught.value.message

    def test_a_version_that_is_not_there_is_told_with_those_that_are(self, solve: Solve) -> None:
        with pytest.raises(CondaUnsolvable, match=r"no version of 'alpha' fits alpha >=3.*there are: 1\.0"):
            solve("alpha >=3")

    def test_a_newer_libc_than_the_bases_is_refused_and_said(self, solve: Solve) -> None:
        with pytest.raises(CondaUnsolvable, match=r"the base of the image has glibc 2\.36"):
            solve("newer-glibc")

    def test_nothing_is_assumed_of_the_processor(self, solve: Solve) -> None:
        with pytest.raises(CondaUnsolvable, match="__archspec"):
            solve("fast")

    def test_what_is_no_specification_is_refused(self, solve: Solve) -> None:
        with pytest.raises(Invalid, match=r"'alpha\[x=1\]' is no conda specification"):
            solve("alpha[x=1]")

    def test_a_folder_that_is_no_channel_is_refused(self, solve: Solve, tmp_path: Path) -> None:
        with pytest.raises(CondaUnsolvable, match="a conda channel is not there"):
            solve("alpha", channels=((tmp_path / "nowhere").as_uri(),))

    def test_a_python_that_the_scoring_server_does_not_run_on_is_refused(self, solve: Solve, tmp_path: Path) -> None:
        url = make_channel(tmp_path / "old", fake_python("3.8.20"))
        with pytest.raises(CondaUnsolvable, match=r"python=3\.8 is too old.*3\.9"):
            solve("python=3.8", channels=(url,))

    def test_a_platform_that_conda_does_not_know_is_refused(self, solve: Solve) -> None:
        with pytest.raises(Invalid, match="conda has no packages for linux/mips64le"):
            solve("alpha", platforms=(Platform("linux", "mips64le"),))


class TestKept:
    def test_a_choice_is_kept_and_used_without_its_channel(
        self, solve: Solve, tmp_path: Path, events: list[Event]
    ) -> None:
        before = solve("alpha")
        (tmp_path / "channel").rename(tmp_path / "gone")
        assert solve("alpha") == before
        assert "as chosen at" in events[-1].text

    def test_a_damaged_lock_is_made_anew(self, solve: Solve, tmp_path: Path) -> None:
        before = solve("alpha")[AMD64]
        (lock,) = (tmp_path / "cache" / "conda" / "locks").iterdir()
        lock.write_text(lock.read_text()[:-40])
        assert names(solve("alpha")[AMD64]) == names(before)

    def test_an_old_choice_serves_when_no_channel_answers(
        self, tmp_path: Path, log: Log, events: list[Event], channel: str
    ) -> None:
        with serving(files_of(tmp_path / "channel").handler()) as host:
            part = CondaPart((f"http://{host}/team",), ("alpha",))
            before = CondaSolver(tmp_path / "cache", log).solve(part, (AMD64,), GLIBC)[AMD64]
        (path,) = (tmp_path / "cache" / "conda" / "locks").iterdir()
        replace(before, made_at=before.made_at - datetime.timedelta(days=2)).write(path)
        again = CondaSolver(tmp_path / "cache", log).solve(part, (AMD64,), GLIBC)[AMD64]
        assert again.packages == before.packages
        assert any(event.level == "warning" and "are used" in event.text for event in events)

    def test_another_choice_is_made_from_indexes_that_were_fetched_when_no_channel_answers(
        self, tmp_path: Path, log: Log, events: list[Event], channel: str
    ) -> None:
        with serving(files_of(tmp_path / "channel").handler()) as host:
            url = f"http://{host}/team"
            CondaSolver(tmp_path / "cache", log).solve(CondaPart((url,), ("alpha",)), (AMD64,), GLIBC)
        found = CondaSolver(tmp_path / "cache", log).solve(CondaPart((url,), ("beta",)), (AMD64,), GLIBC)[AMD64]
        assert names(found) == {"beta": "2.0", "python": "3.12.1"}
        told = [event.text for event in events if event.level == "warning"]
        assert any("does not answer" in text and "earlier builds are used" in text for text in told)

    def test_a_connection_that_is_cut_is_taken_up_again(self, tmp_path: Path, log: Log, channel: str) -> None:
        server = files_of(tmp_path / "channel")
        server.faults = {"/team/noarch/repodata.json": ["cut", "503"]}
        with serving(server.handler()) as host:
            part = CondaPart((f"http://{host}/team",), ("alpha",))
            found = CondaSolver(tmp_path / "cache", log).solve(part, (AMD64,), GLIBC)[AMD64]
        assert names(found)["beta"] == "2.0"


def files_of(folder: Path, at: str = "/team") -> FileServer:
    """A server that has the channel in *folder* below *at*."""
    return FileServer(
        {f"{at}/{p.relative_to(folder).as_posix()}": p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    )


def signed(name: str, signer: Any, issuer: str, key: Any, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
    """A certificate for *key*, signed by *signer*."""
    now = datetime.datetime.now(datetime.UTC)
    subject, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, issuer))
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(hours=1))
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A context for a server on 127.0.0.1, and the certificate of the authority that clients must trust."""
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    trusted = tmp_path / "ca.pem"
    basic = x509.BasicConstraints(ca=True, path_length=0)
    trusted.write_bytes(signed("authority", authority, "authority", authority, (basic, True)))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "tls.pem"
    path.write_bytes(private + signed("channel", authority, "authority", key, (names, False)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, trusted


SOLVE_AND_FETCH = """
import json, sys
from pathlib import Path
from sanderling.errors import SanderlingError
from sanderling.blobs import FileBlobs
from sanderling.image import Log
from sanderling.image.conda.conda_prefix import CondaPrefix
from sanderling.image.conda.wish import channel_logins
from sanderling.image.downloads import Downloads
from sanderling.image.environment.conda_part import CondaPart
from sanderling.oci import Platform
url, cache = sys.argv[1], Path(sys.argv[2])
told = []
log = Log(lambda event: told.append(event.text))
try:
    part = CondaPart((url,), ("alpha",))
    prefix = CondaPrefix.solved(part, [Platform("linux", "amd64")], (2, 36), cache, log)
    downloads = Downloads(FileBlobs(cache / "downloads"), log, channel_logins(part), attempts=1)
    prefix.fetch(downloads)
    downloads.close()
    print(json.dumps({"urls": [p.url for lock in prefix.locks.values() for p in lock.packages], "told": told}))
except SanderlingError as e:
    print(json.dumps({"error": type(e).__name__, "message": e.message, "told": told}))
"""


def solve_and_fetch(url: str, cache: Path, trusted: Path | None) -> dict[str, Any]:
    """In a process of its own: which certificates count is read once in a process."""
    variables = dict(os.environ) | ({"SSL_CERT_FILE": str(trusted)} if trusted else {})
    done = subprocess.run(
        [sys.executable, "-c", SOLVE_AND_FETCH, url, str(cache)],
        capture_output=True, text=True, timeout=60, env=variables,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.usefixtures("channel")
class TestOverTls:
    def test_a_channel_is_asked_over_https_and_its_packages_are_fetched(
        self, tmp_path: Path, tls: tuple[ssl.SSLContext, Path]
    ) -> None:
        with serving(files_of(tmp_path / "channel").handler(), tls[0]) as host:
            found = solve_and_fetch(f"https://{host}/team", tmp_path / "cache", tls[1])
        assert f"https://{host}/team/noarch/beta-2.0-0.conda" in found.get("urls", ()), found

    def test_a_certificate_that_nobody_vouches_for_is_refused(
        self, tmp_path: Path, tls: tuple[ssl.SSLContext, Path]
    ) -> None:
        with serving(files_of(tmp_path / "channel").handler(), tls[0]) as host:
            found = solve_and_fetch(f"https://{host}/team", tmp_path / "cache", None)
        assert found["error"] == "Unavailable"
        assert "certificate" in str(found["message"])

    def test_user_and_password_are_shown_to_the_channel_and_nowhere_else(
        self, tmp_path: Path, tls: tuple[ssl.SSLContext, Path]
    ) -> None:
        server = files_of(tmp_path / "channel")
        server.login = base64.b64encode(b"reader:SECRET").decode()
        with serving(server.handler(), tls[0]) as host:
            found = solve_and_fetch(f"https://reader:SECRET@{host}/team", tmp_path / "cache", tls[1])
            refused = solve_and_fetch(f"https://{host}/team", tmp_path / "other", tls[1])
        assert found.get("urls"), found
        assert refused["error"] == "Denied"
        assert "SECRET" not in json.dumps(found)
        kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        assert kept
        assert not [path for path in kept if b"SECRET" in path.read_bytes()]

    def test_a_token_is_part_of_what_is_asked_and_of_nothing_that_is_kept_or_told(
        self, tmp_path: Path, tls: tuple[ssl.SSLContext, Path]
    ) -> None:
        server = files_of(tmp_path / "channel", "/t/SECRET/team")
        with serving(server.handler(), tls[0]) as host:
            found = solve_and_fetch(f"https://{host}/t/SECRET/team", tmp_path / "cache", tls[1])
        assert found.get("urls"), found
        assert "SECRET" not in json.dumps(found)
        kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        assert not [path for path in kept if b"SECRET" in path.read_bytes()]
