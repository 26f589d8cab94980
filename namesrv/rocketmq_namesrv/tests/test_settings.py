"""Where settings come from, and which may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocketmq_common.settings import SettingsError
from rocketmq_namesrv.settings import CHANGEABLE, NamesrvSettings, as_properties, changed, load


def test_defaults_are_those_of_apache():
    settings, _, unknown = load(None, [], {"ROCKETMQ_HOME": "/h"})
    assert (settings.listen_port, settings.http_port, settings.scan_not_active_broker_interval) == (9876, 9877, 5000)
    assert settings.kv_config_path == "/h/namesrv/kvConfig.json"
    assert settings.http_bind_address == settings.bind_address
    assert unknown == []


def test_home_directory_serves_without_rocketmq_home(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert load(None, [], {})[0].kv_config_path == "/somewhere/namesrv/kvConfig.json"


def test_flags_beat_environment_beats_changes_beat_file(tmp_path):
    file = tmp_path / "namesrv.conf"
    kept = tmp_path / "kept.properties"
    kept.write_text("waitSecondsForService=2\norderMessageEnable=true\nlistenPort=5\n")
    file.write_text(f"waitSecondsForService=1\nlistenPort=1\nhttpPort=1\nconfigStorePath={kept}\n")
    settings, _, _ = load(file, ["httpPort=3"], {"ROCKETMQ_HTTP_PORT": "2", "ROCKETMQ_ORDER_MESSAGE_ENABLE": "false"})
    assert (settings.http_port, settings.wait_seconds_for_service, settings.order_message_enable) == (3, 2, False)
    assert settings.listen_port == 1


def test_file_is_where_changes_go_by_default(tmp_path):
    file = tmp_path / "namesrv.conf"
    file.write_text("")
    assert load(file, [], {})[0].config_store_path == str(file)


def test_keys_of_apache_without_meaning_are_no_warning(tmp_path):
    file = tmp_path / "namesrv.conf"
    file.write_text("serverWorkerThreads=8\nnonsense=1\n")
    assert load(file, [], {})[2] == ["nonsense"]


@pytest.mark.parametrize(
    ("assignment", "word"),
    [
        ("listenPort=70000", "listenPort"),
        ("listenPort=x", "whole number"),
        ("orderMessageEnable=maybe", "true or false"),
        ("scanNotActiveBrokerInterval=1", "scanNotActiveBrokerInterval"),
        ("serverChannelMaxIdleTimeSeconds=0", "serverChannelMaxIdleTimeSeconds"),
        ("httpPort=99999", "httpPort"),
    ],
)
def test_bad_value_is_refused_by_name(assignment, word):
    with pytest.raises(SettingsError, match=word):
        load(None, [assignment], {})


def test_unreadable_file_is_one_error(tmp_path):
    with pytest.raises(SettingsError, match="readable"):
        load(tmp_path / "missing", [], {})
    bad = tmp_path / "bad"
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="UTF-8"):
        load(bad, [], {})


def test_changes_keep_to_the_list_and_the_ranges():
    settings = NamesrvSettings()
    assert changed(settings, {"orderMessageEnable": "true"}).order_message_enable
    assert changed(settings, {"listenPort": "9876"}) == settings
    with pytest.raises(PermissionError, match="listenPort"):
        changed(settings, {"listenPort": "1"})
    with pytest.raises(SettingsError, match="no such key"):
        changed(settings, {"x": "1"})
    with pytest.raises(SettingsError, match="0 to 3600"):
        changed(settings, {"waitSecondsForService": "3601"})


def test_no_changeable_key_names_a_path_or_an_address():
    for key in CHANGEABLE:
        assert key in as_properties(NamesrvSettings())
        assert not any(word in key for word in ("Path", "Address", "Port", "Home", "Command"))
    assert Path(NamesrvSettings().kv_config_path) == Path()
