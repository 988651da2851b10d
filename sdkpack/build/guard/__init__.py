"""The guard around every optimizer: each pass is tried, looked at, and undone where anything is not as it was."""
