"""How commands end."""

import pytest

from palette_vc_jax import cli


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("two\nlines"), 2),
        (OSError(28, "No space left on device"), 1),
        (FloatingPointError("not finite"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_known_errors_are_one_line_and_a_code(capsys, error, code):
    """If this fails, a script that calls a command cannot tell whose fault it was."""

    def main():
        raise error

    with pytest.raises(SystemExit) as stopped:
        cli.run(main)
    assert stopped.value.code == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said


def test_defects_keep_their_traceback():
    """If this fails, a bug in the program is hidden behind a friendly line."""
    with pytest.raises(KeyError):
        cli.run(lambda: {}["missing"])
