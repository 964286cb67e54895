"""Images: where they come from (sources), where they live while a model trains (tiers), and in which order they are seen."""
