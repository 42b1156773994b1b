"""Prepared records: how they are made, written, shared out and read."""
