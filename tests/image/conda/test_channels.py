"""Where channels are, and that their secrets stay apart."""

import pytest

from sanderling.image.conda.channels import Channel, ChannelInvalid, logins, read_channels, with_token


def test_a_name_is_looked_up_below_the_alias() -> None:
    assert read_channels(["conda-forge", "bioconda/label/main"], {}) == [
        Channel("https://conda.anaconda.org/conda-forge"),
        Channel("https://conda.anaconda.org/bioconda/label/main"),
    ]


def test_the_alias_is_the_hosts_when_it_has_one() -> None:
    variables = {"CONDA_CHANNEL_ALIAS": "https://user:word@mirror.example/conda/"}
    channel = Channel("https://mirror.example/conda/conda-forge", login=("user", "word"))
    assert read_channels(["conda-forge"], variables) == [channel]


def test_a_folder_may_be_written_as_a_path_or_as_a_url() -> None:
    assert read_channels(["/srv/my channel", "file:///srv/my%20channel/"], {}) == [Channel("file:///srv/my%20channel")]
    assert read_channels(["/srv/my channel"], {})[0].name == "my channel"


def test_user_and_password_are_kept_apart_from_the_url() -> None:
    found = read_channels(["https://a%40b:p%2Fw@host.example:8443/team"], {})
    assert found == [Channel("https://host.example:8443/team", login=("a@b", "p/w"))]
    assert logins(found) == {"host.example:8443": ("a@b", "p/w")}


def test_a_token_is_kept_apart_and_put_back_only_to_ask() -> None:
    found = read_channels(["https://host.example/t/SECRET/team"], {})
    assert found == [Channel("https://host.example/team", token="SECRET")]
    url = "https://host.example/team/linux-64/x-1-0.conda"
    assert with_token(url, found) == "https://host.example/t/SECRET/team/linux-64/x-1-0.conda"
    assert with_token("https://host.example/teammates/x", found) == "https://host.example/teammates/x"


def test_a_channel_that_is_named_twice_counts_once() -> None:
    assert len(read_channels(["conda-forge", "https://conda.anaconda.org/conda-forge/"], {})) == 1


def test_credentials_may_be_variables_of_the_host() -> None:
    variables = {"SANDERLING_INDEX_WORD": "p@/w", "SANDERLING_INDEX_TOKEN": "SECRET"}
    assert read_channels(["https://reader:${SANDERLING_INDEX_WORD}@host.example/team"], variables) == [
        Channel("https://host.example/team", login=("reader", "p@/w"))
    ]
    assert read_channels(["https://host.example/t/${SANDERLING_INDEX_TOKEN}/team"], variables) == [
        Channel("https://host.example/team", token="SECRET")
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://u:${HOME}@host.example/team", "call the variable SANDERLING_INDEX_HOME"),
        ("https://u:${SANDERLING_INDEX_NONE}@host.example/team", "is not set"),
        ("https://host.example/${SANDERLING_INDEX_WORD}", "a user, a password or a token only"),
    ],
)
def test_no_other_variable_is_put_in_anywhere(name: str, words: str) -> None:
    with pytest.raises(ChannelInvalid, match=words):
        read_channels([name], {"HOME": "SECRET", "SANDERLING_INDEX_WORD": "SECRET"})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("http://host.example/team", "use https"),
        ("ftp://host.example/team", "https:// or file://"),
        ("https://host.example", "needs a path"),
        ("file://host.example/team", "https:// or file://"),
        ("two words", "neither a name nor a URL"),
        ("../up", "neither a name nor a URL"),
        ("", "neither a name nor a URL"),
    ],
)
def test_what_is_no_channel_is_refused_with_the_way_out(name: str, words: str) -> None:
    with pytest.raises(ChannelInvalid, match=words):
        read_channels([name], {})


def test_a_refusal_does_not_show_a_password() -> None:
    with pytest.raises(ChannelInvalid) as caught:
        read_channels(["http://user:SECRET@host.example/t/TOKEN/team"], {})
    assert "SECRET" not in caught.value.message
    assert "TOKEN" not in caught.value.message
