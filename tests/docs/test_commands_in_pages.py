"""Every command in the README and in the pages of docs/ exists, with its flags and config keys."""

import re
import shlex
from pathlib import Path

import pytest

from neuroadapter_jax.commands import program, runner

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "howto").glob("*.md")),
    *sorted((ROOT / "docs" / "explanations").glob("*.md")),
]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
# A stop of the shell, or of the sentence that the command stands in.
_END = re.compile(r"\s(?:[|&;]|#\s|\.\.\.)")


def commands_of(page):
    """The lines of code blocks that start with a command of ours, without prompt and comment."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^ *```(?:console|bash|text)?\n(.*?)^ *```", text, re.M | re.S)
    indented = re.findall(r"(?:^ {4}\S.*\n(?:^ {4,}.*\n)*)", text, re.M)
    for block in (*fenced, *indented):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            line = re.sub(r"<[^>]*>", "PLACE", line.strip())
            found = re.search(
                r"^(?:\$ )?(?:PYTHONPATH=\. )?(?:srun (?:--\S+ )*)?(?:\.venv/bin/)?"
                r"(?P<program>neuroadapter|python launch/\w+\.py|make) (?P<rest>.*)$",
                line + " ",
            )
            if found:
                yield found["program"], _END.split(" " + found["rest"])[0].strip()


def arguments(rest):
    """A command's arguments, with a number for a variable of the shell."""
    return shlex.split(re.sub(r"\$\w+", "1", rest))


CASES = sorted(
    {(page.relative_to(ROOT).as_posix(), *each) for page in PAGES for each in commands_of(page)}
)


def test_the_pages_have_commands():
    assert len(CASES) > 60
    assert {"README.md", "docs/first_steps.md", "docs/howto/nsd.md"} <= {page for page, *_ in CASES}


@pytest.mark.parametrize(("page", "name", "rest"), CASES)
def test_a_command_of_a_page_exists_with_its_flags_and_keys(page, name, rest):
    words = arguments(rest)
    if name == "make":
        assert words[0] in TARGETS
        return
    if name.startswith("python"):
        script = Path(name.split()[1])
        assert (ROOT / script).is_file()
        command = script.stem.replace("_", "-")
    elif words[0].startswith("-"):  # of the program itself
        assert words[0] in ("--help", "--version")
        return
    else:
        command, *words = words
    assert command in program.NAMES
    if "--help" in words:
        return
    runner.parse(command, program.command_module(command), words)  # else it ends with a sentence


@pytest.mark.parametrize(
    "line",
    [
        "$ neuroadapter train --config demo --no_such_flag",
        "$ neuroadapter train --config demo --config.train.no_such_key=1",
        "    python launch/no_such_script.py --config demo",
        "$ srun --ntasks=4 neuroadapter no-such-command | head",
    ],
)
def test_a_command_that_does_not_exist_is_found_out(line, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"Text.\n\n{line}\n" if line[0] == " " else f"```console\n{line}\n```\n")
    ((name, rest),) = commands_of(page)
    with pytest.raises((AssertionError, SystemExit)):
        test_a_command_of_a_page_exists_with_its_flags_and_keys("page", name, rest)
