"""`maskstream completion`: bash itself is asked what it would complete; zsh and fish scripts name all programs."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

from maskstream import cli
from maskstream.commands import completion

# What bash does on Tab: the function that is registered for the program fills COMPREPLY.
ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
[[ $(complete -p "$1") =~ -F\\ ([^ ]+) ]] && "${BASH_REMATCH[1]}" "$1" "${COMP_WORDS[COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
Ask = Callable[..., set[str]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    file = tmp_path_factory.mktemp("completion") / "script.bash"
    file.write_text(completion.script(dict(completion._parsers(True)), "bash"))

    def answers(*words: str) -> set[str]:
        command = ["bash", "--norc", "-c", ASK, "bash", str(file), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return set(done.stdout.split())

    return answers


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["maskstream", "d"], {"demo", "doctor"}),
        (["maskstream", "bench", "s"], {"serve"}),
        (["maskstream", "bench", "serve", "--so"], {"--soak"}),
        (["maskstream", "completion", ""], {"bash", "zsh", "fish"}),
        (["maskstream-export", "v"], {"verify"}),
        (["maskstream-export", "--lay"], {"--layout"}),
        (["maskstream-export", "verify", "--engine", "onnxruntime_c"], {"onnxruntime_cuda"}),
        (["maskstream-train", "--recipe", "t"], {"tiny"}),
        (["maskstream-serve", "--log-format", "j"], {"json"}),
    ],
)
def test_bash_completes(ask: Ask, words: list[str], expected: set[str]) -> None:
    assert ask(*words) == expected


def test_every_command_is_offered(ask: Ask) -> None:
    assert ask("maskstream", "") >= {name for name in cli._COMMANDS if " " not in name}


def test_other_shells_name_all_programs() -> None:
    parsers = dict(completion._parsers(True))
    zsh, fish = completion.script(parsers, "zsh"), completion.script(parsers, "fish")
    assert zsh.splitlines()[0] == f"#compdef {' '.join(completion.PROGRAMS)}"
    assert zsh.count("#compdef") == 1
    assert all(f"complete -c {program} " in fish for program in completion.PROGRAMS)
    for shell, text in (("zsh", zsh), ("fish", fish)):
        if shutil.which(shell):
            subprocess.run([shell, "-n"], input=text, text=True, check=True)


def test_a_program_whose_packages_are_missing_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = {"maskstream": completion.PROGRAMS["maskstream"], "maskstream-train": ("no_torch_here", "parser")}
    monkeypatch.setattr(completion, "PROGRAMS", programs)
    assert cli.main(["completion", "bash"]) == 0
    printed = capsys.readouterr()
    assert "_shtab_maskstream" in printed.out
    assert "maskstream-train is left out: it needs no_torch_here" in printed.err


def test_what_is_in_the_script_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(completion, "PROGRAMS", {"maskstream": completion.PROGRAMS["maskstream"]})
    assert cli.main(["completion", "fish", "--json", "-"]) == 0
    assert '"programs": [\n    "maskstream"\n  ]' in capsys.readouterr().out
