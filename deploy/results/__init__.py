"""What finished trainings have left, and how it is compared and shown."""
