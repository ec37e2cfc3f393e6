"""The sample explorer: every dialogue as it was asked and answered, from a folder on disk, with and without JavaScript."""
