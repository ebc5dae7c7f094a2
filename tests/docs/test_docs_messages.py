"""No message that is raised is missing on the troubleshooting page, and no remedy is about one that is gone."""

from pathlib import Path

from sitegen import messages


def test_every_message_is_in_a_group_and_on_the_page() -> None:
    found = messages.messages()
    assert len(found) > 150
    assert [message for message in found if messages.group_of(message) is None] == []
    page = messages.troubleshooting_part()
    assert [message for message in found if f"``{message.text}``" not in page] == []


def test_every_message_has_a_cause_and_a_remedy() -> None:
    without = [
        message
        for message in messages.messages()
        if not any(entry["says"] in message.text for entry in (messages.group_of(message) or {}).get("messages", ()))
    ]
    assert without == [], "say in docs/data/remedies.yml what brings it about and what to do"


def test_every_remedy_is_about_a_message_that_is_raised() -> None:
    found = messages.messages()
    stale = [
        entry["says"]
        for group in messages.groups()
        for entry in group.get("messages", ())
        if not any(entry["says"] in message.text and messages.group_of(message) == group for message in found)
    ]
    assert stale == []


def write_source(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)


def test_values_are_left_out_of_a_message(tmp_path: Path) -> None:
    write_source(
        tmp_path / "sb3_ppo_variants/new.py",
        'def f(x):\n    raise ValueError(f"x={x!r} is odd: "\n        "give an even one.")\n'
        "def g():\n    raise SystemExit(2)\n",
    )
    found = messages.messages(tmp_path)
    assert found == [messages.Message("ValueError", "x=… is odd: give an even one.", "sb3_ppo_variants/new.py")]
    assert messages.group_of(found[0]) is None


def test_an_error_that_is_made_in_one_place_and_raised_in_another_is_a_message_too(tmp_path: Path) -> None:
    write_source(
        tmp_path / "tuning/new.py",
        'def lost(where):\n    return futures.BrokenExecutor(f"lost {where}")\n'
        'def stop(future):\n    future.set_exception(DiedError("it died"))\n    print("no error")\n'
        "def f(where):\n    raise lost(where)\n",
    )
    found = [(message.error, message.text) for message in messages.messages(tmp_path)]
    assert sorted(found) == [("DiedError", "it died"), ("futures.BrokenExecutor", "lost …")]
