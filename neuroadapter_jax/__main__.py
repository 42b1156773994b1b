"""`python -m neuroadapter_jax` is the program `neuroadapter`."""

from neuroadapter_jax.commands.program import main

if __name__ == "__main__":
    main()
