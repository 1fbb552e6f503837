"""I46: what the log's formatter takes out, whoever logged it."""

from __future__ import annotations

import logging
import traceback
from base64 import b64encode
from pathlib import Path

import asyncpg
import pytest
from redis.exceptions import ResponseError

from aiki.errors import ServerUnreachable
from aiki.shared.redaction import Redactor, described, event_of, shown, traced, without_users

ROW = "Failing row contains (4111, 12/30)."


@pytest.mark.parametrize(("text", "shown"), [
    ("at postgresql://aiki:hunter22@db/x", "at postgresql://***@db/x"),
    ("redis://:p@ss/w#rd@host:6379/0, then", "redis://***@host:6379/0, then"),
    ("'unix://:hunter22@/run/s' and http://a.b/c", "'unix://***@/run/s' and http://a.b/c"),
    ("http://localhost:8080/x", "http://localhost:8080/x"),
    ("ann@example.com", "ann@example.com"),
    ("at postgresql://h/d?user=u&password=hunter22&sslmode=require", "at postgresql://h/d?user=u&password=***&sslmode=require"),
    ("unix:///run/s?sslpassword=hunter22", "unix:///run/s?sslpassword=***"),
    ("GET https://h/x?access_token=hunter22#y", "GET https://h/x?access_token=***#y"),
])  # fmt: skip
def test_urls_lose_user_and_password(text, shown):
    assert without_users(text) == shown


@pytest.mark.parametrize("said", ["hunter/22#x", "hunter%2F22%23x", '{"a": "hunter/22#x"}', "Port could not be cast: 'hunter'"])
def test_passwords_of_the_environment_are_hidden_in_every_form(said):
    redactor = Redactor.of_environment({"AIKI_DATABASE_URL": "postgresql://aiki:hunter%2F22%23x@db/x"})
    raw = Redactor.of_environment({"AIKI_REDIS_URL": "redis://:hunter/22#x@db/x"})
    assert "hunter" not in raw(said)
    assert "Port" in said or "hunter" not in redactor(said)


def test_tokens_are_hidden_on_whichever_side_they_stand():
    redactor = Redactor.of_environment({"AIKI_TOKENS": "team-a:0123456789abcdef,fedcba9876543210:b", "AIKI_TOKEN": "plain-token"})
    assert redactor("0123456789abcdef fedcba9876543210 plain-token team-a") == "*** *** *** team-a"


def test_whatever_is_a_secret_of_the_environment_is_hidden(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("team-a:first-of-the-file\nteam-b:second-of-the-file\n")
    redactor = Redactor.of_environment({
        "AIKI_CLIENT_TOKENS": "team-a:token-of-a-client", "AIKI_TOKENS_FILE": str(file), "AIKI_CLIENT_TOKENS_FILE": "/nowhere/at/all",
        "AIKI_DATABASE_URL": "postgresql://h/d?user=u&password=hunter%2F22", "PGPASSWORD": "hunter33",
        "AIKI_REDIS_URL": "redis://h/0?db=1&password=hunter44",
    })  # fmt: skip
    said = "token-of-a-client first-of-the-file second-of-the-file hunter/22 hunter%2F22 hunter33 hunter44"
    assert redactor(said) == " ".join(["***"] * 7)


def test_fields_are_redacted_however_deep():
    redactor = Redactor(["hunter22"])
    error = ServerUnreachable("http://u:p@h: refused")
    assert redactor.fields({"a": ["hunter22"], "b": {"hunter22": 1}, "c": 3, "d": None, "e": error, "f": {1}}) == {
        "a": ["***"], "b": {"***": 1}, "c": 3, "d": None, "e": "ServerUnreachable: http://***@h: refused", "f": "{1}",
    }  # fmt: skip


def test_error_of_a_row_is_named_and_not_quoted():
    error = asyncpg.CheckViolationError(f'new row for relation "runs" violates check\nDETAIL:  {ROW}')
    error.table_name, error.constraint_name = "runs", "planted"
    assert described(error) == "CheckViolationError (23514): table runs, constraint planted"
    assert described(asyncpg.InvalidTextRepresentationError('invalid input syntax for type integer: "4111"')).startswith("InvalidTextRepresentationError (22P02)")  # fmt: skip


def test_error_of_a_connection_says_what_it_says():
    assert described(asyncpg.InvalidPasswordError("password authentication failed for user a")) == "InvalidPasswordError (28P01): password authentication failed for user a"  # fmt: skip
    assert described(ConnectionRefusedError(111, "Connection refused")) == "ConnectionRefusedError: [Errno 111] Connection refused"


def test_traceback_has_the_causes_and_none_of_their_data():
    card = f"card-{4000 + 111}"
    text = ""
    try:
        try:
            int(card)
        except ValueError as error:
            raise ExceptionGroup(card, [KeyError(card), ServerUnreachable("away")]) from error
    except ExceptionGroup as error:
        text = traced(error)
    assert card not in text
    assert all(part in text for part in ("ValueError", "The cause of what follows", "KeyError", "ServerUnreachable: away", __file__))


def failed(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001  that is what it is for
        return caught


def test_errors_in_the_fields_of_an_event_are_described_however_deep():
    fields = Redactor().fields({"errors": [ValueError("4111")], "by": {"name": {"of": KeyError("4111")}}, "path": [Path("a")]})
    assert fields == {"errors": ["ValueError"], "by": {"name": {"of": "KeyError"}}, "path": ["a"]}


def test_names_of_fields_are_redacted_and_secrets_in_base64_are():
    redactor = Redactor(["hunter22"])
    assert redactor.fields({"hunter22": b64encode(b"hunter22").decode()}) == {"***": "***"}


def test_url_without_a_scheme_has_a_password_all_the_same():
    assert Redactor.of_environment({"AIKI_URL": "u:hunter22@h:8080"})("InvalidURL: u:hunter22@h:8080/x") == "InvalidURL: u:***@h:8080/x"


@pytest.mark.parametrize(("said", "kept"), [
    ("unknown command `AUTH`, with args beginning with: `u`, `hunter22`, ", "unknown command `AUTH`"),
    ("Error in ACL SETUSER modifier '>hunter'22': Syntax error", "Error in ACL SETUSER modifier : Syntax error"),
    ("WRONGPASS invalid username-password pair", "WRONGPASS invalid username-password pair"),
])  # fmt: skip
def test_what_redis_repeats_of_a_command_is_cut(said, kept):
    assert described(ResponseError(said)) == f"ResponseError: {kept}"


def test_shown_error_says_no_more_in_any_formatter_and_keeps_places_and_causes():
    card = f"card-{4000 + 111}"
    error = failed(ExceptionGroup(card, [failed(KeyError(card)), failed(ServerUnreachable("away"))]))
    error.__cause__ = failed(ValueError(card))
    error.__cause__.__cause__ = error  # a circle
    error.add_note(card)
    for text in ("".join(traceback.format_exception(shown(error))), traced(shown(error))):
        assert card not in text
        assert all(part in text for part in ("KeyError", "ServerUnreachable: away", "ValueError", "ExceptionGroup", __file__))


def test_pictures_of_asyncio_are_cut_and_words_of_others_are_kept():
    said = "Task exception was never retrieved\nfuture: <Task finished name='t' exception=ValueError('card <4111>')>"
    assert event_of(logging.makeLogRecord({"name": "asyncio", "msg": said})) == "Task exception was never retrieved\nfuture: <Task>"
    assert event_of(logging.makeLogRecord({"name": "shop", "msg": "a <b> c"})) == "a <b> c"
