"""Command line: flags only; each module has `main(argv)`."""
