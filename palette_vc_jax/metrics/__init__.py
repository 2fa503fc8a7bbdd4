"""What a colored film is measured by."""
