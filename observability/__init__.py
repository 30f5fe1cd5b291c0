"""What Grafana and Prometheus are given: the dashboard's source, and the compose layer's files."""
