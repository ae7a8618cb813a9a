"""Tables, plots, the self-contained HTML report and model cards."""
