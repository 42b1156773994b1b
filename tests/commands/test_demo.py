from pathlib import Path

from neuroadapter_jax.commands import program
from neuroadapter_jax.studies import demo


def test_quick_ends_with_the_first_pictures(monkeypatch, capsys):
    called = []

    def first(out, run_stage):
        called.append(("first", out))
        return Path("picture.png"), Path("page.html")

    def whole(out, run_stage):
        called.append(("whole", out))
        return {}

    monkeypatch.setattr(demo, "check_demo", lambda out: called.append(("check", out)))
    monkeypatch.setattr(demo, "run_quick_demo", first)
    monkeypatch.setattr(demo, "run_demo", whole)
    program.main(["demo", "--quick", "--out=a"])
    assert called == [("first", Path("a"))]
    out = capsys.readouterr().out
    assert "First pictures:  picture.png\n" in out and "Which region:    page.html\n" in out
    program.main(["demo", "--out=a"])
    # What a whole demo cannot write is refused before the first pictures are made.
    assert [name for name, _ in called[1:]] == ["check", "first", "whole"]
