"""Features -> y0 and yN -> scores: lifts and readouts, each agent's own."""
