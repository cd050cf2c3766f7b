"""What goes on being measured, for monitoring systems: Prometheus and OpenTelemetry."""
