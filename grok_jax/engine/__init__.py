"""The machinery of sweeps: from a configuration to results on a disk or in a store."""
