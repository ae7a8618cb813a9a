import time
from email.utils import formatdate

import pytest

from models.lm.http_transport import FailureKind, error_status, http_failure, refused_option, retry_after_s


def test_retry_after_is_a_number_or_a_date():
    assert 57 < retry_after_s(formatdate(time.time() + 60, usegmt=True)) < 61
    assert retry_after_s(" 12 ") == 12 and retry_after_s("0.5") == 0.5
    assert retry_after_s("9" * 400) == float("inf"), "the client's limit decides"


@pytest.mark.parametrize(
    "value", [None, "", "soon", "nan", "inf", "-5", "0", "1e9", "Mon, 01 Jan 2001 00:00:00 GMT", "Mon, 01 Jan 99999 00:00:00 GMT"]
)
def test_what_is_no_time_to_wait_leaves_the_usual_back_off(value):
    assert retry_after_s(value) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "STOP"),
        (402, "STOP"),
        (403, "STOP"),
        (404, "STOP"),
        (302, "STOP"),
        (400, "REFUSED"),
        (413, "REFUSED"),
        (422, "REFUSED"),
    ]
    + [(status, "TRANSIENT") for status in (408, 425, 429, 500, 502, 503, 504, 520, 529, 599)],
)
def test_every_status_has_a_kind(status, kind):
    assert http_failure(status, "no").kind is FailureKind[kind]


def test_no_waiting_brings_back_a_spent_quota():
    spent = http_failure(429, "no", body='{"error": {"code": "insufficient_quota"}}', retry_after="1")
    assert spent.kind is FailureKind.STOP and "HTTP 429" in spent.what and "balance" in spent.cure


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ({"choices": []}, None),
        ({"error": None, "choices": []}, None),
        ({"error": {"message": "x", "code": 429}}, 429),
        ({"error": {"code": "503"}}, 503),
        ({"error": {"type": "overloaded_error"}}, 529),
        ({"error": {"type": "INVALID_API_KEY", "code": None}}, 401),
        ({"error": "overloaded", "status": 529}, 529),
        ({"error": "overloaded"}, 500),
        ({"error": {"code": [1], "type": {}}}, 500),
        ({"error": {"code": 200}}, 500),
        ({"object": "error", "message": "too long", "code": 400}, 400),
        ({"error": {"code": 503}, "choices": []}, 503),
        ({"error": {"code": 503}, "choices": [{"message": {"content": "Hi"}}]}, None),
        ({"choices": [{"error": {"code": 502}, "message": {"content": ""}, "finish_reason": "error"}]}, 502),
        ({"choices": [{"error": {"code": 502}, "text": "Hi"}]}, None),
        ({"error": {"code": 502}, "choices": [{"message": {"content": None}}]}, 502),
        ({"choices": [None]}, None),
        ({"choices": None}, None),
    ],
)
def test_an_error_in_a_reply_stands_for_a_status(reply, status):
    assert error_status(reply) == status


@pytest.mark.parametrize(
    ("body", "option"),
    [
        ('{"error": {"message": "Unsupported parameter", "param": "max_tokens", "code": "unsupported_parameter"}}', "max_tokens"),
        ("Unrecognized request argument: `seed`", "seed"),
        ('{"error": {"message": "\'temperature\' does not support 0 with this model"}}', "temperature"),
        ('{"error": {"message": "\'max_tokens\' must be at most 4096"}}', None),
        ('{"error": {"message": "unsupported image"}}', None),
        ('{"error": []}', None),
        ("", None),
    ],
)
def test_which_option_is_refused(body, option):
    assert refused_option(body, {"max_tokens": 1, "temperature": 0, "seed": 2}) == option
