"""One Prefect task per step, thin: resolve paths, call models.*, publish, return a reference."""
