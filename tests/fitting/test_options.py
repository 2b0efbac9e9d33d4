"""What a user types: numbers, pairs, and files of numbers by domain."""

from __future__ import annotations

import json

import pytest

from mixopt.errors import InputError
from mixopt.fitting.options import by_name, families, folders, number, numbers, paths, texts

SHARES = {"web": 0.6, "code": 0.4}


@pytest.mark.parametrize(
    ("text", "value"), [("0.3", 0.3), ("30%", 0.3), ("2.5 %", 0.025), ("7/52.0", 7 / 52), ("2e12", 2e12), ("1_000", 1000.0), (5, 5.0)]
)
def test_numbers_as_people_write_them(text, value):
    assert number(text, "x") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "a", "1/0", "1/2/3", "%", "__import__('os')", "nan", "inf", None, True])
def test_what_is_no_number(text):
    with pytest.raises(InputError, match="--at-most web: "):
        number(text, "--at-most web")


def test_pairs_split_at_the_last_equals_sign():
    assert texts(["a=b=c", " web = 0.3 "], "--x") == {"a=b": "c", "web": "0.3"}
    assert numbers(["web=30%"], "--x") == {"web": 0.3}
    assert families(["math=gsm8k, minerva,"]) == {"math": ["gsm8k", "minerva"]}
    for items, message in (
        (["web"], "--x 'web': write name=value"),
        (["=1"], "write name=value"),
        (["a=1", "a=2"], "--x names 'a' twice"),
    ):
        with pytest.raises(InputError, match=message):
            texts(items, "--x")


def test_paths_split_at_the_first_equals_sign():
    assert paths(["web=/d/lang=en", " code = b", "web=c"], "--path") == {"web": ["/d/lang=en", "c"], "code": ["b"]}
    assert folders(["web=/d/lang=en", "code=b"], "--val") == {"web": "/d/lang=en", "code": "b"}
    with pytest.raises(InputError, match="--val names 'web' twice"):
        folders(["web=a", "web=b"], "--val")
    for item in ("web", "=a", "web="):
        with pytest.raises(InputError, match=f"--path '{item}': write name=path, such as --path web=/data/web"):
            paths([item], "--path")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.json", json.dumps(SHARES)),
        ("p.json", json.dumps({"what": "shares", "prior": SHARES})),
        ("p.json", json.dumps({"priors": {"token_counts": SHARES}})),
        ("p.yaml", "web: 0.6\ncode: 4/10\n"),
        ("p.yml", "token_counts:\n  web: 0.6\n  code: 40%\n"),
        ("p.csv", "domain,share\nweb,0.6\ncode,0.4\n"),
        ("p.csv", "web,0.6\n\ncode,0.4\n"),
        ("p.csv", "code,web,books\n0.4,0.6,0\n"),
        ("p.txt", "web,0.6\ncode,0.4\n"),
    ],
    ids=lambda v: v[:30],
)
def test_files_of_numbers(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    found = by_name(str(tmp_path / name), "--prior")
    assert {n: v for n, v in found.items() if v} == pytest.approx(SHARES)


def test_a_list_in_place_of_a_file():
    assert by_name("web=0.6,code=0.4", "--prior") == SHARES
    with pytest.raises(InputError, match=r"--prior 'prior\.json' is no file that is there, and no list such as"):
        by_name("prior.json", "--prior")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", "{", "cannot be read"),
        ("p.json", "[1, 2]", "holds no numbers by domain; .*found a list"),
        ("p.json", "{}", "found nothing"),
        ("p.yaml", "a: [", "it is no YAML"),
        ("p.yaml", "just text", "found a str"),
        ("p.csv", "a,1,2\nb,3,4\nc,5,6\n", "two columns, name and number"),
        ("p.csv", "a,1\na,2\nb,3\n", r"names \(a\) more than once"),
        ("p.csv", "domain,share\nweb,many\n", "web: 'many' is not a number"),
    ],
)
def test_files_that_hold_something_else(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        by_name(str(tmp_path / name), "--prior")
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        by_name(str(tmp_path / name), "--prior")
