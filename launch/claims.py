"""The command `neuroadapter claims`, run from a checkout; --help tells what it does."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # a checkout runs without being installed

from neuroadapter_jax.commands.program import run_command

if __name__ == "__main__":
    run_command("claims")
