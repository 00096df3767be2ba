"""Workspaces and the models registered in them.

- A registration is one transaction: a reader sees the whole version or none of it.
- A workspace may only use content that was sent to it in full: knowing a digest that
  another workspace holds gives no access to its bytes.
- Versions count up from 1 for each name and never return.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from sanderling.blobs import FileBlobs
from sanderling.errors import Conflict, Invalid, NotFound
from sanderling.oci import Digest
from sanderling.workspace import rules, tables
from sanderling.workspace.models import ModelFile, ModelVersion, WorkspaceInfo

MAX_LISTED = 1000


class Workspaces:
    """All workspaces of a server. Names and shapes are in `rules` and `models`."""

    def __init__(
        self, engine: Engine, blobs: FileBlobs, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        tables.metadata.create_all(engine)
        self._engine, self._blobs, self._clock = engine, blobs, clock

    def create(self, name: str, *, exist_ok: bool = False) -> WorkspaceInfo:
        """Make a workspace; Conflict when it exists, unless *exist_ok*."""
        rules.check_workspace_name(name)
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(tables.workspaces).values(name=name, created_at=self._now()))
        except IntegrityError as e:
            if not exist_ok:
                raise Conflict(f"workspace '{name}' exists already: use it, or choose another name") from e
        return self.get(name)

    def get(self, name: str) -> WorkspaceInfo:
        """Return the workspace; NotFound names those that exist."""
        found = self._infos(tables.workspaces.c.name == name)
        if not found:
            with self._engine.connect() as connection:
                raise self._missing(connection, name)
        return found[0]

    def list_all(self) -> list[WorkspaceInfo]:
        """Return every workspace, by name."""
        return self._infos()

    def admit(self, workspace: str, digest: Digest) -> None:
        """Note that all bytes of *digest* were sent to *workspace*, and that it may use them."""
        row = {"workspace": workspace, "digest": str(digest), "created_at": self._now()}
        with self._engine.begin() as connection:
            self._require(connection, workspace)
            connection.execute(self._upsert(tables.uploads).values(row).on_conflict_do_nothing())

    def find_sizes(self, workspace: str, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Return the size in bytes of each content that *workspace* may use; others are left out."""
        with self._engine.connect() as connection:
            self._require(connection, workspace)
            return self._sizes(connection, workspace, digests)

    def register(
        self,
        workspace: str,
        name: str,
        files: Mapping[str, Digest],
        tags: Mapping[str, str],
        properties: Mapping[str, str],
        description: str = "",
    ) -> ModelVersion:
        """Add the next version of *name*. On any error nothing changes and no version is used up.

        files: path below the model's folder to content that was sent before.
        Raises Invalid for a bad name, path, tag or content that was not sent; NotFound for the workspace.
        """
        rules.check_model_name(name)
        rules.check_paths(files)
        rules.check_labels("tags", tags)
        rules.check_labels("properties", properties)
        rules.check_description(description)
        with self._engine.begin() as connection:
            self._require(connection, workspace)
            sizes = self._sizes(connection, workspace, files.values())
            for path, digest in files.items():
                if digest not in sizes:
                    raise Invalid(f"the content of {path!r} ({digest}) was not sent to workspace '{workspace}'")
            version = self._next_version(connection, workspace, name)
            row = {"workspace": workspace, "name": name, "version": version, "description": description}
            added = insert(tables.models).values(row | {"created_at": self._now()}).returning(tables.models.c.id)
            model_id = connection.execute(added).scalar_one()
            _insert_labels(connection, model_id, {"tag": tags, "property": properties})
            rows = [
                {"model_id": model_id, "path": path, "digest": str(digest), "size_bytes": sizes[digest]}
                for path, digest in files.items()
            ]
            connection.execute(insert(tables.model_files), rows)
        return self.get_model(workspace, name, version)

    def find_models(
        self,
        workspace: str,
        *,
        name: str | None = None,
        tags: Sequence[str] = (),
        latest: bool = False,
        limit: int = MAX_LISTED,
    ) -> list[ModelVersion]:
        """Return model versions, newest first, at most *limit*.

        tags: each is `key` or `key=value`; all must fit. latest: of those that fit, the highest version per name.
        """
        query = select(tables.models).where(tables.models.c.workspace == workspace)
        if name is not None:
            query = query.where(tables.models.c.name == name)
        for tag in tags:
            query = query.where(tables.models.c.id.in_(_with_tag(tag)))
        if latest:
            fits = query.subquery()
            newest = select(func.max(fits.c.id)).group_by(fits.c.name)
            query = query.where(tables.models.c.id.in_(newest))
        with self._engine.connect() as connection:
            self._require(connection, workspace)
            return _load(connection, query.order_by(tables.models.c.id.desc()).limit(limit))

    def get_model(self, workspace: str, name: str, version: int | None = None) -> ModelVersion:
        """Return a version of *name*, the highest one for None; NotFound says which versions there are."""
        query = select(tables.models).where(tables.models.c.workspace == workspace, tables.models.c.name == name)
        wanted = query if version is None else query.where(tables.models.c.version == version)
        with self._engine.connect() as connection:
            self._require(connection, workspace)
            found = _load(connection, wanted.order_by(tables.models.c.version.desc()).limit(1))
            if found:
                return found[0]
            versions = sorted(row.version for row in connection.execute(query))
        if version is not None and versions:
            numbers = ", ".join(str(number) for number in versions[-10:])
            raise NotFound(f"model '{name}' has no version {version} in workspace '{workspace}'; it has {numbers}")
        raise NotFound(f"no model '{name}' in workspace '{workspace}'")

    def get_file(self, workspace: str, name: str, version: int, path: str) -> tuple[ModelFile, Path]:
        """Return a file of a model and where its bytes lie on the disk."""
        model = self.get_model(workspace, name, version)
        for file in model.files:
            if file.path == path:
                return file, self._blobs.path(file.digest)
        raise NotFound(f"model '{model.id}' has no file {path!r}; it has {model.files[0].path!r} and such")

    def delete_model(self, workspace: str, name: str, version: int) -> None:
        """Remove a version; its number is never used again. NotFound when it is not there."""
        model = self.get_model(workspace, name, version)
        table = tables.models.c
        with self._engine.begin() as connection:
            connection.execute(
                delete(tables.models).where(
                    table.workspace == workspace, table.name == model.name, table.version == version
                )
            )

    def remove_unused(self, keep: Collection[Digest], before: datetime) -> int:
        """Remove content that no model has, that is not in *keep*, and that was sent before *before*; say how much.

        Only for when nobody sends or registers: a server calls it at its start.
        """
        with self._engine.begin() as connection:
            used = set(connection.execute(select(tables.model_files.c.digest).distinct()).scalars()).union(keep)
            unused = [
                info.digest
                for info in self._blobs.digests()
                if info.digest not in used and self._blobs.path(info.digest).stat().st_mtime < before.timestamp()
            ]
            for digest in unused:
                connection.execute(delete(tables.uploads).where(tables.uploads.c.digest == digest))
        # After the commit: a stop in between leaves bytes that nobody may use, and the next call finds them.
        for digest in unused:
            self._blobs.delete(digest)
        return len(unused)

    def _infos(self, *conditions: Any) -> list[WorkspaceInfo]:
        count = (
            select(func.count())
            .where(tables.models.c.workspace == tables.workspaces.c.name)
            .scalar_subquery()
            .label("model_count")
        )
        query = select(tables.workspaces, count).where(*conditions).order_by(tables.workspaces.c.name)
        with self._engine.connect() as connection:
            return [
                WorkspaceInfo(row.name, _time(row.created_at), row.model_count) for row in connection.execute(query)
            ]

    def _require(self, connection: Connection, workspace: str) -> None:
        query = select(tables.workspaces.c.name).where(tables.workspaces.c.name == workspace)
        if connection.execute(query).one_or_none() is None:
            raise self._missing(connection, workspace)

    def _missing(self, connection: Connection, workspace: str) -> NotFound:
        return NotFound(f"no workspace '{workspace}': make it with 'sanderling init --name {workspace}'")

    def _sizes(self, connection: Connection, workspace: str, digests: Iterable[Digest]) -> dict[Digest, int]:
        wanted, held = {str(digest): digest for digest in digests}, tables.uploads.c
        sizes = {}
        names = list(wanted)
        for start in range(0, len(names), 500):
            batch = names[start : start + 500]
            query = select(held.digest).where(held.workspace == workspace, held.digest.in_(batch))
            for row in connection.execute(query):
                info = self._blobs.find(wanted[row.digest])
                if info is not None:
                    sizes[wanted[row.digest]] = info.size
        return sizes

    def _next_version(self, connection: Connection, workspace: str, name: str) -> int:
        names = tables.model_names
        taken = (
            self._upsert(names)
            .values(workspace=workspace, name=name, last_version=1)
            .on_conflict_do_update(
                index_elements=[names.c.workspace, names.c.name], set_={"last_version": names.c.last_version + 1}
            )
            .returning(names.c.last_version)
        )
        return int(connection.execute(taken).scalar_one())

    def _upsert(self, table: Any) -> Any:
        # SQLAlchemy has "on conflict" only in the dialects' own inserts; both take the same words.
        return sqlite.insert(table) if self._engine.dialect.name == "sqlite" else postgresql.insert(table)

    def _now(self) -> float:
        return self._clock().timestamp()


def _insert_labels(connection: Connection, model_id: int, labels: Mapping[str, Mapping[str, str]]) -> None:
    rows = [
        {"model_id": model_id, "kind": kind, "key": key, "value": value}
        for kind, pairs in labels.items()
        for key, value in pairs.items()
    ]
    if rows:
        connection.execute(insert(tables.model_labels), rows)


def _with_tag(tag: str) -> Select[tuple[int]]:
    key, equals, value = tag.partition("=")
    labels = tables.model_labels.c
    query = select(labels.model_id).where(labels.kind == "tag", labels.key == key)
    return query.where(labels.value == value) if equals else query


def _load(connection: Connection, query: Select[Any]) -> list[ModelVersion]:
    """Return the models of *query* with their labels and files: three queries, however many models."""
    rows = connection.execute(query).all()
    ids = [row.id for row in rows]
    labels: dict[tuple[int, str], dict[str, str]] = defaultdict(dict)
    files: dict[int, list[ModelFile]] = defaultdict(list)
    if ids:
        label_table, file_table = tables.model_labels, tables.model_files
        for row in connection.execute(select(label_table).where(label_table.c.model_id.in_(ids)).order_by("key")):
            labels[row.model_id, row.kind][row.key] = row.value
        for row in connection.execute(select(file_table).where(file_table.c.model_id.in_(ids)).order_by("path")):
            files[row.model_id].append(ModelFile(row.path, Digest.parse(row.digest), row.size_bytes))
    return [_model(row, labels[row.id, "tag"], labels[row.id, "property"], tuple(files[row.id])) for row in rows]


def _model(
    row: Row[Any], tags: dict[str, str], properties: dict[str, str], files: tuple[ModelFile, ...]
) -> ModelVersion:
    created = _time(row.created_at)
    return ModelVersion(row.workspace, row.name, row.version, row.description, tags, properties, created, files)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
