"""The rules that plugins keep, as functions that try them: behind `vlmprompt plugins check` and `vlmprompt.testing`."""
