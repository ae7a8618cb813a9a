"""No secret survives, whatever wrote it into the text, and what is no secret stays readable."""

import base64
import html
import json
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import redaction
from models.redaction import MASK, excerpt, redact, redacted, register_address, register_secrets

CANARY = "cAnArY7"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_known", set())
    yield


def writings(secret: str) -> list[str]:
    once = [
        secret,
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        repr(secret),
        html.escape(secret),
        quote(secret),
        quote(secret, safe=""),
        quote(secret, safe="").lower() if secret.islower() else quote(secret, safe=""),
        quote_plus(secret),
        urlencode({"k": secret}),
        json.dumps(secret).replace("/", r"\/"),
    ]
    return once + [f(w) for w in once for f in (json.dumps, repr, html.escape)] + [repr(json.dumps(json.dumps(secret)))]


@pytest.mark.parametrize(
    "secret",
    [
        CANARY,
        rf"a\{CANARY}",
        f'a"{CANARY}',
        f"it's {CANARY} ",
        rf'\"{CANARY}\\"',
        f"<{CANARY}&>",
        f"ü{CANARY}€😀",
        f"{CANARY}+/=%",
    ],
)
def test_a_known_secret_is_found_in_every_writing(secret: str) -> None:
    for text in writings(secret):
        assert CANARY not in redact(f"server says: {text}!", secrets=[secret]), text


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=12).filter(lambda s: s.strip() == s))
def test_any_known_secret_is_found(tail: str) -> None:
    secret = CANARY + tail
    for text in writings(secret):
        assert CANARY not in redact(f"x {text} y", secrets=[secret])


PASSWORDS = [
    CANARY,
    f"a/{CANARY}",
    f"{CANARY}/b",
    f"a@{CANARY}",
    f"{CANARY}@b",
    f"a {CANARY} b",
    f"{CANARY}%2Fx",
    f"a%40{CANARY}",
]
PASSWORDS += [f"{CANARY}:b", f"a:{CANARY}", f"a?{CANARY}#b", f"'{CANARY}\"", f"p@/ {CANARY}/@ x", f"12{CANARY}", f"a//{CANARY}"]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "address", ["postgresql://{u}:{p}@127.0.0.1:5432/db", "http://{u}:{p}@host", "mysql+pymysql://{u}:{p}@[::1]/x?a=b"]
)
@pytest.mark.parametrize("user", ["u", "me@corp.com", ""])
def test_no_password_of_an_address_survives(address: str, user: str, password: str) -> None:
    full = address.format(u=user, p=password)
    for text in (full, f"cannot reach '{full}': refused", json.dumps({"uri": full}), f"{full}\nnext line"):
        assert CANARY not in redact(text), text
    assert "next line" in redact(f"{full}\nnext line")


def test_a_login_without_a_password_is_a_token() -> None:
    assert redact(f"https://{CANARY}@github.com/x/y@main") == "https://***@github.com/x/y@main"


@pytest.mark.parametrize(
    "name", ["token", "api_key", "key", "access_token", "X-Amz-Signature", "sig", "sslpassword", "auth[token]"]
)
def test_tokens_of_a_query_are_taken_out(name: str) -> None:
    assert redact(f"GET https://host/a?x=1&{name}={CANARY}%20b&y=2 failed") == f"GET https://host/a?x=1&{name}={MASK}&y=2 failed"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {CANARY}",
        f"{{'authorization': 'Basic {base64.b64encode(CANARY.encode()).decode()}'}} {CANARY}"[:-8],
        f'{{"api_key": "{CANARY} and more"}}',
        json.dumps(json.dumps({"password": f"{CANARY} x"})),
        f"host=h password={CANARY} user=u",
        f"AWS_SECRET_ACCESS_KEY={CANARY}",
        f"OPENAI_API_KEY='{CANARY}'",
        f"key sk-{CANARY * 4} is wrong",
        f"hf_{CANARY * 4}",
    ],
)
def test_headers_fields_and_well_known_tokens(text: str) -> None:
    assert CANARY not in redact(text) and base64.b64encode(CANARY.encode()).decode() not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "API request to http://127.0.0.1:5000/api failed for metric recall@1",
        "http://[::1]:4200/api and me@corp.com",
        "sqlite:////data/a@b/mlflow.db",
        "file:///home/a@b/x",
        "git+https://github.com/a/b@main",
        "`max_new_tokens`: 5, token ids: [1, 2], tokens=7",
        "`fusion.lr` must be greater than 0, but is -1e-05 (params.yaml:41).",
        "mail me@corp.com: see https://host/a?page=2",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_text_is_redacted_before_it_is_cut() -> None:
    secret = "s" * 50
    for limit in range(1, 80):
        assert "ss" not in excerpt(f"server says\n {secret} is wrong", limit, secrets=[secret])
    assert excerpt("a\n b", 10) == "a b" and excerpt("abcdef", 3) == "abc…"


def test_what_is_hidden_once_is_known_from_then_on() -> None:
    register_secrets(f'k"{CANARY}', "")
    assert CANARY not in redact(json.dumps(f'k"{CANARY}'))
    register_address("postgresql://u:pa@Sesame/Simsim@host:5432/db?sslpassword=Tok%20en9")
    for part in (
        "pa@Sesame/Simsim",
        'could not translate host name "Sesame"',
        "Simsim@host",
        "Tok en9",
        quote("pa@Sesame/Simsim", safe=""),
    ):
        shown = redact(part)
        assert not any(word in shown for word in ("Sesame", "Simsim", "en9")), shown


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:////data/some@place/mlflow.db",
        "file:///data/some@place",
        "http://data:5000/some@place",
        "https://data/some@place",
        "x",
    ],
)
def test_words_of_a_path_are_no_secrets(address: str) -> None:
    register_address(address)
    assert redact("data some place 5000") == "data some place 5000"


@pytest.mark.parametrize("address", ["http://u:p@host/x", "http://u@host", "postgresql://u:p@h/d?token=t", "mysql://u@h/d"])
def test_short_logins_do_not_blank_the_letters_of_a_message(address: str) -> None:
    register_address(address)
    assert redact("`tracking.uri` must be up, but put it there") == "`tracking.uri` must be up, but put it there"
    assert ":p@" not in redact(address) and "u@" not in redact(address)
    assert redact("with password p: refused") == f"with password {MASK if ':p@' in address else 'p'}: refused"


def test_the_name_of_a_database_login_is_no_secret_but_a_token_of_the_web_is() -> None:
    register_address("postgresql://postgres@localhost/db")
    register_address(f"https://{CANARY}@github.com/x")
    assert redact(f"a postgresql store of postgres, {CANARY}x") == f"a postgresql store of postgres, {MASK}x"


def test_a_path_with_an_at_sign_stays() -> None:
    for text in ("sqlite:////a:b/me@work/mlflow.db is locked", "file:///a:b/me@work"):
        assert redact(text) == text
    assert redact("sqlite+pysqlcipher://:cAnArY@/x") == "sqlite+pysqlcipher://***@/x"


def test_trees_are_redacted_in_keys_and_values() -> None:
    tree = {"uri": "http://u:p@h", "list": ["x", {"api_key": "abc", "n": 1}], "tokenizer": "abc", "http://u:p@h": None}
    assert redacted(tree) == {
        "uri": "http://***@h",
        "list": ["x", {"api_key": MASK, "n": 1}],
        "tokenizer": "abc",
        "http://***@h": None,
    }
