"""The commands: flags and what is printed. Each module has `main(argv)`; `main.py` lists them."""
