"""An image with everything to tell of it, without a build: small layers, two Debian packages, two wheels, a model."""

import hashlib
from dataclasses import replace
from pathlib import Path

from sanderling.blobs import FileBlobs
from sanderling.image import ModelFiles, Recipe, SourceFile
from sanderling.image.assembly import Assembled, assemble
from sanderling.image.bases import Base
from sanderling.image.debian.packages import Package
from sanderling.image.interpreter import DEBIAN_12
from sanderling.image.layers.layer_file import write_layer
from sanderling.image.layers.tree import file_entry
from sanderling.image.packages.resolve import Wheel
from sanderling.image.supply_chain.contents import CondaPackage, Contents, FileGroup
from sanderling.oci import Platform

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
SECRET = "s3cret-token"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def debian(name: str, version: str, architecture: str) -> Package:
    control = f"Package: {name}\nSource: {name}-source\nVersion: {version}\nArchitecture: {architecture}\n"
    place = f"pool/main/{name[0]}/{name}/{name}_{version}_{architecture}.deb"
    return Package(name, version, place, sha256(place), 1000, "", control, "main")


def contents(platform: Platform, **changes: object) -> Contents:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[platform.architecture]
    libc, data = debian("libc6", "2.36-9+deb12u10", platform.architecture), debian("tzdata", "2025b-0+deb12u1", "all")
    file = f"numpy-2.1.0-cp311-cp311-manylinux2014_{machine}.whl"
    wheels = (
        Wheel("joblib", "1.4.2", "file:///home/user/wheels/joblib-1.4.2-py3-none-any.whl", sha256("joblib"), None),
        Wheel("numpy", "2.1.0", f"https://user:{SECRET}@index.example/{file}?token={SECRET}", sha256(file), 16_000_000),
    )
    files = (
        FileGroup("model", "digits", "3", {"var/azureml-app/azureml-models/digits/3/model.pkl": sha256("model")}),
        FileGroup("application", "score.py", "", {"var/azureml-app/score.py": sha256("score")}),
        FileGroup("scoring", "sanderling_scoring", "0.1.0", {"usr/lib/python3/sanderling_scoring/a.py": sha256("a")}),
    )
    licences = {libc.sha256: ("LGPL-2.1-or-later", "GPL-2.0-only"), sha256("joblib"): ("BSD-3-Clause",)}
    values: dict[str, object] = {"debian": (libc, data), "suite": "bookworm", "wheels": wheels, "files": files}
    return Contents(platform, DEBIAN_12, **(values | {"licences": licences} | changes))  # type: ignore[arg-type]


def conda() -> CondaPackage:
    url = f"https://user:{SECRET}@conda.example/t/linux-64/lightgbm-4.5.0-py311_0.conda"
    return CondaPackage("lightgbm", "4.5.0", "py311_0", "linux-64", "conda-forge", url, sha256("lightgbm"), 3_000_000)


def recipe(folder: Path, *platforms: Platform) -> Recipe:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("score.py", "model.pkl", "myenv.yml"):
        (folder / name).write_text(f"{name} {SECRET}")
    return Recipe(
        "demo/digits:1",
        SourceFile("score.py", folder / "score.py"),
        environment=SourceFile(str(folder / "myenv.yml"), folder / "myenv.yml"),
        models=(ModelFiles("digits", 3, {"model.pkl": folder / "model.pkl"}),),
        platforms=platforms or (AMD64,),
        description="Reads digits",
    )


def image(made: Recipe, blobs: FileBlobs, text: str = "layer") -> Assembled:
    layers = [write_layer([file_entry(f"f{n}", f"{text} {n}".encode())], blobs, f"layer {n}") for n in range(2)]
    bases = dict.fromkeys(made.platforms, Base(()))
    plain = assemble(made, DEBIAN_12, dict.fromkeys(made.platforms, layers), blobs, bases)
    told = tuple(contents(platform) for platform in made.platforms)
    return replace(plain, contents=told)
