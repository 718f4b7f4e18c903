"""The `meltproof` command: every subcommand explains itself."""

from __future__ import annotations

import pytest

from serve_app.__main__ import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_how_it_is_used(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"usage: meltproof {command}" in capsys.readouterr().out


def test_an_unknown_command_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["paint"])
    assert left.value.code == 2
    assert "'run', 'generate'" in capsys.readouterr().err
