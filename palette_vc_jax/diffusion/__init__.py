"""EDM preconditioning, noise schedules, solvers and guidance: pure functions on arrays."""
