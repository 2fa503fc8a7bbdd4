"""The studio: choose palettes on a film in the browser, and color it from there."""
