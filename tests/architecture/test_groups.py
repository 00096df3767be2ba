"""Tests that share a costly fixture run in one process: pytest-xdist may stop reading our groups without a word."""

import os

import pytest


def test_a_test_is_named_by_its_group(request: pytest.FixtureRequest) -> None:
    assert "PYTEST_XDIST_WORKER" not in os.environ or request.node.nodeid.endswith("@architecture/test_groups")
