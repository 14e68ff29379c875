"""The command line: a module a command, and `options` for what several of them have."""
