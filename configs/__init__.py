"""Configuration: the schema and the presets."""
