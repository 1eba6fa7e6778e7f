"""API keys, live settings, heartbeats, idempotency and people, on both databases.

What belongs here: the small query files of `altforecast_io.store`. What does not: the engine and the inbox.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from altforecast.errors import InputError, StorageError, UnknownNameError
from altforecast_io.store import heartbeats, idempotency, keys, outbox, schema, settings, users
from altforecast_io.store.engine import Store
from tests.io.conftest import NOW


def test_create_key_stores_only_its_hash(store: Store) -> None:
    made = keys.create(store, "importer", ("write",))
    with store.read() as connection:
        row = connection.execute(select(schema.api_keys)).one()
    assert made.secret not in str(row)
    assert made.secret.split("_")[-1] not in str(row)
    assert keys.find(store, made.secret) == made.key


@pytest.mark.parametrize(
    ("scopes", "allowed"), [(("read",), {"read"}), (("write",), {"read", "write"}), (("admin", "read"), {"read", "write", "admin"})]
)
def test_key_allows_its_scopes(store: Store, scopes: tuple[str, ...], allowed: set[str]) -> None:
    key = keys.create(store, "k", scopes).key
    assert {s for s in keys.SCOPES if key.allows(s)} == allowed


def test_find_wrong_secret_of_a_known_prefix(store: Store) -> None:
    secret = keys.create(store, "k", ("read",)).secret
    for wrong in (secret[:-1] + ("0" if secret[-1] != "0" else "1"), secret[:12], "", "afk_", "x" * 5000, "afk_\ud800"):
        assert keys.find(store, wrong) is None


def test_revoke_ends_a_key_at_once(store: Store, hand: Any) -> None:
    made = keys.create(store, "k", ("admin",))
    keys.revoke(store, made.key.id)
    hand.now = NOW + timedelta(hours=1)
    assert keys.revoke(store, made.key.id).revoked_at == NOW
    found = keys.find(store, made.secret)
    assert found is not None
    assert not found.allows("read")


def test_revoke_unknown_key(store: Store) -> None:
    with pytest.raises(UnknownNameError):
        keys.revoke(store, 7)


@pytest.mark.parametrize("scopes", [(), ("root",), ("read", "all")])
def test_create_key_bad_scope(store: Store, scopes: tuple[str, ...]) -> None:
    with pytest.raises(UnknownNameError, match="read, write, admin"):
        keys.create(store, "k", scopes)


@pytest.mark.parametrize("name", ["", "  ", "n" * 65])
def test_create_key_bad_name(store: Store, name: str) -> None:
    with pytest.raises(InputError):
        keys.create(store, name, ("read",))


def test_setting_default_is_version_0(store: Store) -> None:
    assert settings.get(store, "streams.grace_s") == settings.SettingVersion("streams.grace_s", 120, 0, None, "default")


def test_put_setting_keeps_every_version(store: Store) -> None:
    settings.put(store, "streams.grace_s", 60, by="ann")
    settings.put(store, "streams.grace_s", 90.5, by="bob")
    assert [(v.version, v.value, v.updated_by) for v in settings.history(store, "streams.grace_s")] == [
        (2, 90.5, "bob"), (1, 60, "ann"), (0, 120, "default"),
    ]  # fmt: skip
    assert settings.get(store, "streams.grace_s").value == 90.5


def test_put_setting_stale_version_refused(store: Store) -> None:
    settings.put(store, "streams.grace_s", 60, by="ann", expected_version=0)
    with pytest.raises(settings.VersionConflictError, match="version 1, not 0"):
        settings.put(store, "streams.grace_s", 90, by="bob", expected_version=0)
    assert settings.get(store, "streams.grace_s").value == 60


@pytest.mark.parametrize("value", [0, -1, "60", None, True, float("nan"), float("inf"), [60]])
def test_put_setting_bad_value_says_what_is_allowed(store: Store, value: Any) -> None:
    with pytest.raises(InputError, match=r"streams\.grace_s: must be a number from 1 to 86400"):
        settings.put(store, "streams.grace_s", value, by="ann")
    assert settings.get(store, "streams.grace_s").version == 0


def test_put_unknown_setting_lists_known(store: Store) -> None:
    with pytest.raises(UnknownNameError, match=r"streams\.grace_s"):
        settings.put(store, "streams.grace", 1, by="ann")


def test_live_settings_follow_another_process(reopen: Callable[[], Store]) -> None:
    live = settings.LiveSettings(reopen())
    assert live["streams.grace_s"] == 120
    settings.put(reopen(), "streams.grace_s", 60, by="ann")
    assert live["streams.grace_s"] == 120
    assert live.refresh()
    assert live["streams.grace_s"] == 60
    assert not live.refresh()


def test_put_setting_in_parallel_makes_every_version(store: Store) -> None:
    run_in_parallel(8, lambda n: settings.put(store, "streams.grace_s", n + 1, by=str(n)))
    assert [v.version for v in settings.history(store, "streams.grace_s")] == [8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_beat_replaces_the_last_one(store: Store, hand: Any) -> None:
    heartbeats.beat(store, "realtime", NOW, {"lag_ms": 1.5})
    hand.now = NOW + timedelta(seconds=5)
    heartbeats.beat(store, "realtime", NOW, {"lag_ms": 2})
    assert heartbeats.all_beats(store) == [heartbeats.Heartbeat("realtime", NOW, hand.now, {"lag_ms": 2})]
    assert heartbeats.latest(store) == {"realtime": hand.now}


def test_latest_beats_of_nobody(store: Store) -> None:
    assert heartbeats.latest(store) == {}


def test_check_and_store_second_is_duplicate_until_ttl(store: Store, hand: Any) -> None:
    assert idempotency.check_and_store(store, "order-1") == "new"
    assert idempotency.check_and_store(store, "order-1") == "duplicate"
    assert idempotency.check_and_store(store, "order-2") == "new"
    hand.now = NOW + timedelta(hours=24)
    assert idempotency.check_and_store(store, "order-1") == "new"


def test_check_and_store_in_parallel_one_is_new(store: Store) -> None:
    outcomes: list[str] = []
    run_in_parallel(12, lambda _: outcomes.append(idempotency.check_and_store(store, "k", timedelta(hours=1))))
    assert Counter(outcomes) == {"new": 1, "duplicate": 11}


@pytest.mark.parametrize("key", ["", "k" * 201])
def test_check_and_store_bad_key(store: Store, key: str) -> None:
    with pytest.raises(InputError):
        idempotency.check_and_store(store, key)


def test_ensure_user_is_one_row_per_chat(store: Store) -> None:
    first = users.ensure(store, -100123456789, "Ann")
    assert users.ensure(store, -100123456789, "Ann B.") == users.User(first.id, -100123456789, "Ann B.", NOW)


def test_subscribe_once_per_filter(store: Store) -> None:
    user = users.ensure(store, 1, "Ann")
    assert [users.subscribe(store, user.id, "divergences", f) for f in ("", "BTC", "BTC")] == [True, True, False]
    assert [s.filter for s in users.subscriptions(store, "divergences")] == ["", "BTC"]
    assert users.unsubscribe(store, user.id, "divergences", "BTC")
    assert not users.unsubscribe(store, user.id, "divergences", "BTC")


def test_subscribe_unknown_user(store: Store) -> None:
    with pytest.raises(StorageError):
        users.subscribe(store, 99, "divergences")


def test_user_settings_are_replaced(store: Store) -> None:
    user = users.ensure(store, 1, "Ann")
    assert users.settings_of(store, user.id) == {}
    for zone in ("Europe/Istanbul", "Europe/Amsterdam"):
        users.set_setting(store, user.id, "timezone", zone)
    users.set_setting(store, user.id, "muted", True)
    assert users.settings_of(store, user.id) == {"timezone": "Europe/Amsterdam", "muted": True}


def test_post_same_key_at_once_is_one_letter(store: Store) -> None:
    posted: list[bool] = []
    run_in_parallel(4, lambda _: posted.extend([outbox.post(store, "digest", 1, "text", f"key {n}") for n in range(20)]))
    assert Counter(posted) == {True: 20, False: 60}
    assert outbox.waiting(store).n_waiting == 20


def test_post_at_once_keeps_the_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING", 5)
    run_in_parallel(4, lambda n: [outbox.post(store, "digest", 1, "text", f"key {n} {k}") for k in range(5)])
    assert outbox.waiting(store).n_waiting == 5


def run_in_parallel(count: int, work: Callable[[int], Any]) -> None:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
