"""The program `neuroadapter`: one module per command.

Each command's module has a docstring, which is its help; `define(values)`, which defines its flags;
and `main(values, arguments)`, which does the work. What takes long to import (JAX and all that
stands on it) is imported inside `main`, so that every --help answers at once. `program` names the
commands, `runner` runs one, `shared_flags` defines the flags that several of them have.
"""
