"""The commands: flags and output. Each module has `main(argv)`, and `main.py` lists them."""
