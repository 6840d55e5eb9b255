"""The configuration: schema, composition, presets, plugins. Knows no run."""
