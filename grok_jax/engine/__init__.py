"""Runs sweeps: from a configuration to results on a disk or in an object store."""
