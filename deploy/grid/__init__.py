"""Trainings planned and run side by side."""
