"""What a run learns about its data, and how it is shown."""
