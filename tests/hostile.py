"""Text that means something to somebody on its way: a shell, sbatch, slurmctld, a file system, a terminal."""

from __future__ import annotations

from tests.slurm_kit import MARKER

HOSTILE = {
    "newline": "a\nb",
    "newline and directive": "a\n#SBATCH --uid=0\nb",
    "directive": "#SBATCH --uid=0",
    "directive after return": "a\r#SBATCH --uid=0",
    "NUL": "a\0b",
    "single quote": "it's",
    "only quotes": "'''\"\"\"'",
    "command": "$(exit 9)",
    "backquotes": "`exit 9`",
    "variable": "${HOME} $HOME $SLURM_JOB_ID",
    "arithmetic": "$((1/0))",
    "history": "!! !x",
    "glob": "* ? [a-z] {a,b} ~",
    "operators": "a; b & c | d > e < f && g",
    "line separator": "a\u2028#SBATCH --uid=0",
    "next line": "a\x85#SBATCH --uid=0",
    "other line ends": "a\v\f\x1c\x1d\x1eb",
    "leading dash": "-rf",
    "two dashes": "--",
    "backslashes": "\\ \\\\ \\n \\",
    "patterns": "%j %A %a %x %%",
    "end of our text": f"a\nSCRIPT-OF-{MARKER}\nexit 9\nSTEP-OF-{MARKER}\nexit 9\n",
    "end of a here-document": "a\nEOF\nexit 9",
    "long": "x" * 65536,
    "long quotes": "'" * 65536,
    "control": "\x01\x07\x1b[31m\x7f",
    "unicode": "ä漢😀\u202e\ufeff",
    "half a character": "\ud800",
    "equals": "=a=b",
    "colon": ":",
    "empty": "",
    "blank": " ",
    "tabs": "\ta\t",
}
