"""Evaluation: benchmark items, scoring, statistics and tables."""
