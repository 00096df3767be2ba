"""The admin user of each workspace, in SQL.

It is off until switched on, and has two passwords, so that one can be changed
while the other is in use. They are shown to the owner, therefore sealed at
rest, not hashed.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Engine, bindparam, select, update

from sanderling.errors import Invalid
from sanderling.oci import is_repository
from sanderling.registry import tables
from sanderling.registry.access.secrets import new_password

PasswordName = Literal["password", "password2"]
PASSWORD_NAMES: tuple[PasswordName, PasswordName] = ("password", "password2")
_MAX_UNSEALED = 1000
# Built once: every request that rests on a password asks it.
_FIND = select(tables.admins).where(tables.admins.c.workspace == bindparam("workspace"))


@dataclass(frozen=True, slots=True)
class AdminUser:
    """The admin user of a workspace; `passwords` are the two, in order."""

    username: str
    enabled: bool
    passwords: tuple[str, str]

    def __repr__(self) -> str:
        return f"AdminUser({self.username!r}, enabled={self.enabled})"  # no passwords in logs


class Admins:
    """All admin users. Methods block."""

    def __init__(self, engine: Engine, seal: Callable[[bytes], bytes], unseal: Callable[[bytes], bytes]) -> None:
        self._engine, self._seal, self._unseal = engine, seal, unseal
        self._unsealed: dict[bytes, str] = {}
        # Whom an unknown name is compared with, so that it costs what a known one does.
        self._nobody = AdminUser("", False, (new_password(), new_password()))

    def ensure(self, workspace: str) -> AdminUser:
        """Return the admin user of *workspace*, made, switched off, when first asked for; raise `Invalid`."""
        found = self.find(workspace)
        if found is None:
            if "." in workspace or "/" in workspace or not is_repository(workspace):
                raise Invalid(f"{workspace[:100]!r} is no name of a workspace: lower-case letters, digits and dashes")
            first, second = (self._seal(new_password().encode()) for _ in PASSWORD_NAMES)
            row: dict[str, object] = {
                "workspace": workspace,
                "enabled": False,
                "password": first,
                "password2": second,
            }
            with self._engine.begin() as connection:
                tables.put_row(connection, tables.admins, row, replace=False)
            found = self.find(workspace)
        assert found is not None
        return found

    def set_enabled(self, workspace: str, enabled: bool) -> AdminUser:
        """Switch the admin user on or off."""
        self.ensure(workspace)
        self._update(workspace, enabled=enabled)
        return self.ensure(workspace)

    def regenerate(self, workspace: str, name: PasswordName) -> AdminUser:
        """Replace one of the two passwords; raise `Invalid` for another name."""
        if name not in PASSWORD_NAMES:
            raise Invalid(f"{str(name)[:50]!r} is no password's name: password or password2 is expected")
        self.ensure(workspace)
        self._update(workspace, **{name: self._seal(new_password().encode())})
        return self.ensure(workspace)

    def find(self, workspace: str) -> AdminUser | None:
        """Return the admin user, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(_FIND, {"workspace": workspace}).one_or_none()
        if row is None:
            return None
        return AdminUser(row.workspace, row.enabled, (self._open(row.password), self._open(row.password2)))

    def check(self, workspace: str, password: str) -> tuple[AdminUser, str] | None:
        """Return the admin user who is on and has *password*, and the password itself, or None."""
        admin = self.find(workspace) if is_repository(workspace) else None
        # Both are compared, always, and in constant time: time must not tell which was close, or who is known.
        expected = (admin or self._nobody).passwords
        fits = [hmac.compare_digest(password.encode(), text.encode()) for text in expected]
        if admin is None or not admin.enabled or not any(fits):
            return None
        return admin, expected[fits.index(True)]

    def _open(self, sealed: bytes) -> str:
        """Return the password; it is kept in memory, as the key is that opens it: each request asks for it."""
        found = self._unsealed.get(sealed)
        if found is None:
            found = self._unseal(sealed).decode()
            if len(self._unsealed) >= _MAX_UNSEALED:
                self._unsealed.clear()
            self._unsealed[sealed] = found
        return found

    def _update(self, workspace: str, **values: object) -> None:
        with self._engine.begin() as connection:
            connection.execute(update(tables.admins).where(tables.admins.c.workspace == workspace).values(values))
