"""Where arrays live: the mesh of devices, what is split over it, and how data gets there."""
