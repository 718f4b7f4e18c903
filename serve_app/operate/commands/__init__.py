"""The subcommands of `meltproof`: each module has `main(arguments) -> exit code`."""
