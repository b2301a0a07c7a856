"""What runs in processes of its own, so that it is measured alone: ``python -m benchmarks.programs.NAME``."""
