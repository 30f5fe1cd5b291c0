"""The matcher service: matches the texts of claimed tasks, and those that clients send."""
