"""Many clips: a plan, workers that carry it out, what came of each clip, and a page that shows it."""
