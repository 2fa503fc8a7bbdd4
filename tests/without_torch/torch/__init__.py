"""A torch that cannot be imported: the product runs without it, and starts faster."""

raise ModuleNotFoundError("No module named 'torch'", name="torch")
