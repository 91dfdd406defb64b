"""The MLflow tracker, an observer plugin."""
