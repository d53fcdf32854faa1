"""What a turn costs, measured beside a bare gRPC stream in the same run. See docs/bench.md."""
