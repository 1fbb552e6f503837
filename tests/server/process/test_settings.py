"""Settings from the environment, and what is refused."""

from __future__ import annotations

import re
import traceback
from dataclasses import replace

import pytest

from aiki_server.faults import Faults
from aiki_server.settings import Settings, SettingsError, log_level

URL = {"AIKI_DATABASE_URL": "postgresql://x"}


def test_tokens_belong_to_namespaces(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("b:two-token\n\ndefault:three-token\n")
    settings = Settings.from_environment(URL | {"AIKI_TOKENS": "a:hush-token, a:plain-token,", "AIKI_TOKENS_FILE": str(file)})
    assert settings.tokens == {"hush-token": "a", "plain-token": "a", "two-token": "b", "three-token": "default"}
    assert Settings.from_environment(URL | {"AIKI_TOKENS": "hush-token"}).tokens == {"hush-token": "default"}
    assert "hush" not in repr(settings)
    assert settings.weak == ["a", "b", "default"]
    assert Settings.from_environment(URL | {"AIKI_TOKENS": "0123456789abcdef"}).weak == []


@pytest.mark.parametrize(
    ("environment", "insecure", "message"),
    [
        (URL, False, "No tokens"),
        (URL | {"AIKI_HOST": "0.0.0.0"}, True, "loopback"),
        ({}, True, "AIKI_DATABASE_URL"),
        (URL | {"AIKI_TOKENS": "a b:t"}, False, "no name"),
        (URL | {"AIKI_TOKENS": "default:"}, False, "AIKI_TOKENS has an empty token"),
        (URL | {"AIKI_TOKENS": "a:,b:long-token"}, False, "Entry 1 of AIKI_TOKENS has an empty token"),
        (URL | {"AIKI_TOKENS": ":long-token"}, False, "no name"),
        (URL | {"AIKI_TOKENS": "a:pw,Qx9"}, False, "no comma"),
        (URL | {"AIKI_TOKENS": "Qx9,a:pw"}, False, "no comma"),
        (URL | {"AIKI_TOKENS": "a:the-same,b:the-same"}, False, "Entry 2 of AIKI_TOKENS .* of two namespaces"),
        (URL | {"AIKI_TOKENS": "a:the-same,a:the-same"}, False, "stands in another entry as well"),
        (URL | {"AIKI_TOKENS": "a:tok en-token"}, False, "no client can send"),
        (URL | {"AIKI_TOKENS": "a:p\u00e4ss-token"}, False, "no client can send"),
        (URL | {"AIKI_TOKENS": "a:x:long-token"}, False, "no client can send"),
        (URL | {"AIKI_TOKENS": '"a:long-token"'}, False, "no name"),
        (URL | {"AIKI_TOKENS": "x"}, False, "fewer than 8"),
        (URL | {"AIKI_TOKENS": "a:x"}, False, "fewer than 8"),
        (URL | {"AIKI_TOKENS": "a:1234567"}, False, "fewer than 8"),
        (URL | {"AIKI_TOKENS": "s3:cr3t"}, False, "fewer than 8"),
        (URL | {"AIKI_TOKENS": "long-token:default"}, False, "name of a namespace"),
        (URL | {"AIKI_TOKENS": "a-token-of-some-length:payments"}, False, "swapped"),
        (URL | {"AIKI_TOKENS": "fedcba9876543210:payments-live"}, False, "swapped"),
        (
            URL | {"AIKI_TOKENS": "some-team:long-token-enough,long-token:some-team"},
            False,
            "Entry 2 of AIKI_TOKENS has the name of a namespace",
        ),
        (URL | {"AIKI_CLIENT_TOKENS": "a:x", "AIKI_TOKENS": "a:long-token"}, False, "AIKI_CLIENT_TOKENS has a token of fewer than 8"),
        (URL | {"AIKI_TOKENS": "a:long-token", "AIKI_METRICS_TOKEN": "x"}, False, "AIKI_METRICS_TOKEN has a token of fewer than 8"),
        (URL | {"AIKI_TOKENS_FILE": "/nowhere/at/all"}, False, "cannot be read"),
        (URL | {"AIKI_TOKENS": "a:long-token", "AIKI_METRICS_TOKEN": "long-token"}, False, "AIKI_METRICS_TOKEN"),
        (URL | {"AIKI_PORT": "x"}, True, "no number"),
        (URL | {"AIKI_FAULT": "nowhere"}, True, "AIKI_FAULT is no point"),
        (URL | {"AIKI_FAULT": "after_commit:x"}, True, "AIKI_FAULT is no point"),
    ],
)
def test_what_cannot_work_is_refused(environment, insecure, message):
    with pytest.raises(SettingsError, match=message):
        Settings.from_environment(environment, insecure=insecure)


@pytest.mark.parametrize("name", ["AIKI_REDIS_URL", "AIKI_WORKER_REDIS_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "redis://:hush/hush@redis:6379/0",
        "redis://:hush#hush@redis",
        "http://:hush@redis",
        "redis://u:hush@redis:port",
        "hush",
        "redis://[hush",
    ],
)
def test_a_url_of_redis_that_is_none_is_refused_and_not_shown(name, url):
    """I46: it has a password in it."""
    with pytest.raises(SettingsError, match=name) as refused:
        Settings.from_environment(URL | {name: url}, insecure=True)
    assert "hush" not in "".join(traceback.format_exception(refused.value))


def test_urls_of_redis_are_not_shown():
    settings = Settings.from_environment(URL | {"AIKI_REDIS_URL": "redis://:hush@redis:6379/0"}, insecure=True)
    assert settings.worker_redis_url == "redis://:hush@redis:6379/0"
    assert "hush" not in repr(settings)


def test_tokens_of_clients_are_told_apart():
    settings = Settings.from_environment(URL | {"AIKI_TOKENS": "a:one-token", "AIKI_CLIENT_TOKENS": "a:two-token"})
    assert settings.tokens == {"one-token": "a", "two-token": "a"}
    assert settings.client_tokens == {"two-token"}
    with pytest.raises(SettingsError, match="AIKI_CLIENT_TOKENS and in AIKI_TOKENS"):
        Settings.from_environment(URL | {"AIKI_TOKENS": "a:one-token", "AIKI_CLIENT_TOKENS": "a:one-token"})


def test_a_level_of_the_log_is_one():
    assert [log_level({}), log_level({"AIKI_LOG_LEVEL": ""}), log_level({"AIKI_LOG_LEVEL": "debug"})] == ["INFO", "INFO", "DEBUG"]
    with pytest.raises(SettingsError, match="no level"):
        log_level({"AIKI_LOG_LEVEL": "hush"})


def test_the_lease_sets_the_heartbeat():
    assert Settings.from_environment(URL | {"AIKI_LEASE_SECONDS": "30"}, insecure=True).heartbeat_seconds == 10


def test_retention_can_be_switched_off():
    assert Settings.from_environment(URL | {"AIKI_RETENTION_DAYS": "0"}, insecure=True).retention_days is None


def test_a_fault_kills_at_its_turn(monkeypatch):
    killed = []
    monkeypatch.setattr("os.kill", lambda *arguments: killed.append(arguments))
    faults = Faults.parse("after_commit:2")
    faults.at("before_commit")
    faults.at("after_commit")
    assert not killed
    faults.at("after_commit")
    assert len(killed) == 1
    Faults.parse("").at("after_commit")
    with pytest.raises(ValueError, match="is no point"):
        Faults.parse("nowhere")


def test_a_refusal_of_a_token_does_not_tell_it():
    for tokens in (
        "a:hush hush", "a:hush,hush2", "a:hush-token,b:hush-token", "hush:", "hush-hush-hush:default", "hush", "a:hush", "s3hush:hush",
        "hush-1-hush:team-a,hush-2-hush:team-a", "hush-1-hush:long-enough,hush-2-hush:long-enough", "hush hush:a-long-token", "hush-hush-hush-hush:payments-a",
    ):  # fmt: skip
        with pytest.raises(SettingsError) as refusal:
            Settings.from_environment(URL | {"AIKI_TOKENS": tokens})
        assert "hush" not in str(refusal.value)


def test_settings_show_no_secret():
    settings = Settings.from_environment(
        {"AIKI_TOKENS": "a:token-of-a", "AIKI_DATABASE_URL": "postgresql://u:hunter22@h/d", "AIKI_REDIS_URL": "redis://:hunter33@h", "AIKI_WORKER_REDIS_URL": "redis://:hunter44@h"}
    )  # fmt: skip
    shown = f"{settings!r} {settings} {settings.database_url} {settings.redis_url!r} {settings.worker_redis_url}"
    assert not re.search("hunter|token-of-a", shown)
    assert replace(settings, redis_url="redis://:hunter55@h").redis_url == "redis://:hunter55@h"
    assert "hunter55" not in repr(replace(settings, redis_url="redis://:hunter55@h"))


@pytest.mark.parametrize("url", [
    "postgresql://u:hunter/22@h/d", "postgresql://u:hunter@22@h/d", "postgresql://u:hunter#22@h/d", "postgresql://u:hunter?22@h/d",
    "postgresql://u:hunter:22@h/d", "postgresql://u:[hunter22@h/d", "mysql://u:hunter22@h/d", "hunter22", "postgresql://u:x@h:hunter22/d",
])  # fmt: skip
def test_url_that_libraries_would_cut_up_is_refused_without_a_word_of_it(url):
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"AIKI_TOKENS": "a:token-of-a", "AIKI_DATABASE_URL": url})
    assert "hunter" not in str(raised.value)
    assert "AIKI_DATABASE_URL" in str(raised.value)


@pytest.mark.parametrize("url", [
    "postgresql://u:hunter%2F22@h/d", "postgres:///d?host=/run", "postgresql://u@h1:1,h2:2/d", "postgresql://u:p@[::1]:5/d?sslmode=require", "postgresql://u:p@/d?host=/run/x",
])  # fmt: skip
def test_url_that_is_clear_is_taken(url):
    assert Settings.from_environment({"AIKI_TOKENS": "a:token-of-a", "AIKI_DATABASE_URL": url}).database_url == url
