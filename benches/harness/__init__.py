"""What benches/run is made of: `tools` fetches and builds, `arms` are the brokers, `host` runs one of them and its load
in a world of their own, `workloads` are W1 to W10, `report` makes tables of trials."""
